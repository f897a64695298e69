/** The pages' signs. Decoration beside words: hidden from assistive technology. */
import type { ReactNode } from "react";

function sign(drawn: ReactNode) {
  return function Sign({ size = 16 }: { size?: number }) {
    return (
      <svg
        width={size}
        height={size}
        viewBox="0 0 24 24"
        fill="none"
        stroke="currentColor"
        strokeWidth="2"
        strokeLinecap="round"
        strokeLinejoin="round"
        aria-hidden="true"
        focusable="false"
      >
        {drawn}
      </svg>
    );
  };
}

export const Bolt = sign(<path d="M13 2 5 14h6l-1 8 9-13h-6z" />);
export const Check = sign(<path d="M4 12.5 9.5 18 20 6.5" />);
export const Clock = sign(
  <>
    <circle cx="12" cy="12" r="9" />
    <path d="M12 7v5l3.5 2" />
  </>,
);
export const Question = sign(
  <>
    <circle cx="12" cy="12" r="9" strokeDasharray="3 3" />
    <path d="M9.6 9.2a2.5 2.5 0 1 1 3.4 2.7c-.7.3-1 .8-1 1.6M12 16.8v.1" />
  </>,
);
export const On = sign(<path d="M12 3v9M6.6 6.6a8 8 0 1 0 10.8 0" />);
export const Off = sign(<circle cx="12" cy="12" r="8" />);
export const Warning = sign(<path d="M12 4 2.5 20h19zM12 10v4M12 17v.1" />);
export const Cross = sign(<path d="m6 6 12 12M18 6 6 18" />);
export const Lock = sign(<path d="M6 11h12v9H6zM8.5 11V7.5a3.5 3.5 0 0 1 7 0V11" />);
export const Sun = sign(
  <>
    <circle cx="12" cy="12" r="4" />
    <path d="M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.4M17.6 17.6 19 19M19 5l-1.4 1.4M6.4 17.6 5 19" />
  </>,
);
export const Moon = sign(<path d="M20 14.5A8.5 8.5 0 1 1 9.5 4a7 7 0 0 0 10.5 10.5z" />);
export const Battery = sign(<path d="M3 8h15v8H3zM21 11v2M6 11v2M10 11v2" />);
export const Pylon = sign(<path d="m8 21 4-18 4 18M5 8h14M6 13h12M9.3 15l6 6M14.7 15l-6 6" />);
export const Gear = sign(
  <>
    <circle cx="12" cy="12" r="3.5" />
    <path d="M12 3v3M12 18v3M3 12h3M18 12h3M5.6 5.6l2.1 2.1M16.3 16.3l2.1 2.1M18.4 5.6l-2.1 2.1M7.7 16.3l-2.1 2.1" />
  </>,
);
export const Right = sign(<path d="M4 12h15M13 6l6 6-6 6" />);
export const Left = sign(<path d="M20 12H5M11 6l-6 6 6 6" />);
export const Pulse = sign(<path d="M2 12h5l3-8 4 16 3-8h5" />);

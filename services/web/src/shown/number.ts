/** Numbers as the API gives them: no rounding that a person could not see, a true minus sign, and the unit always beside it. */

const DECIMALS = 3;

/** A number as text, to at most three decimals. */
export function numberText(value: number): string {
  const rounded = Number(value.toFixed(DECIMALS));
  return (Object.is(rounded, -0) ? 0 : rounded).toString().replace("-", "−");
}

/** A number with its unit, or null where it is not known. Null means "not known" and 0 means zero. */
export function withUnit(value: number | null | undefined, unit: string): string | null {
  return value === null || value === undefined ? null : `${numberText(value)} ${unit}`;
}

/** A value of whatever type a packet may carry. */
export function valueText(value: boolean | number | string | null): string | null {
  if (value === null) return null;
  return typeof value === "number" ? numberText(value) : String(value);
}

/** A length of bytes for people. */
export function bytesText(bytes: number): string {
  if (bytes < 1024) return `${bytes} B`;
  return bytes < 1024 * 1024 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
}

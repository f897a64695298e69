/** A dialog over the page: named by its title, left by Escape and its button; one that holds what was typed is not left by a stray click. */
import { Modal } from "@mantine/core";
import type { ReactNode } from "react";
import { words } from "../words.ts";

export function Dialog({
  title,
  onClose,
  children,
  size = "md",
  typed = false,
}: {
  title: string;
  onClose: () => void;
  children: ReactNode;
  size?: "md" | "lg" | "xl";
  typed?: boolean;
}) {
  // The page's policy allows no style element, and the lock of the page's scrolling would write one.
  return (
    <Modal.Root
      opened
      onClose={onClose}
      size={size}
      closeOnClickOutside={!typed}
      lockScroll={false}
      transitionProps={{ duration: 0 }}
    >
      <Modal.Overlay />
      <Modal.Content>
        <div className="dialog-head">
          <Modal.Title>{title}</Modal.Title>
          <Modal.CloseButton aria-label={words.close} />
        </div>
        <Modal.Body>{children}</Modal.Body>
      </Modal.Content>
    </Modal.Root>
  );
}

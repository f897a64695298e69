/** A dialog over the page: named by its title, left by Escape and its button; one that holds what was typed is not left by a stray click. */
import { Button, Modal } from "@mantine/core";
import { type ReactNode, useEffect, useState, useSyncExternalStore } from "react";
import { currentSession, signInBeside, watchSession } from "../api/session.ts";
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
  useFocusBack();
  // The page's policy allows no style element, and the lock of the page's scrolling would write one. The label names the dialog in
  // the moment before its title is known as such.
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
      <Modal.Content aria-label={title}>
        <div className="dialog-head">
          <Modal.Title>{title}</Modal.Title>
          <Modal.CloseButton aria-label={words.close} />
        </div>
        <Modal.Body>
          <SignInEnded />
          {children}
        </Modal.Body>
      </Modal.Content>
    </Modal.Root>
  );
}

/** Whoever works by keyboard goes on where they opened the dialog; where that is gone, at the page's content. */
function useFocusBack() {
  const [opener] = useState(() => document.activeElement);
  useEffect(
    () => () => {
      const to = opener instanceof HTMLElement && opener.isConnected ? opener : document.getElementById("content");
      to?.focus();
    },
    [opener],
  );
}

/** A dialog covers the page's own way to sign in again; without this one it would have to be closed, and what was typed with it. */
function SignInEnded() {
  const { ended } = useSyncExternalStore(watchSession, currentSession);
  if (!ended) return null;
  return (
    <div className="banner warn" role="alert" style={{ marginBottom: "1rem" }}>
      <div className="stack tight">
        <span>{words.access.ended}</span>
        <div>
          <Button size="xs" onClick={signInBeside}>
            {words.access.signIn}
          </Button>
        </div>
      </div>
    </div>
  );
}

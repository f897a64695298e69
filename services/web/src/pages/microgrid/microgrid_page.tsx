export function MicrogridPage() {
  return null;
}

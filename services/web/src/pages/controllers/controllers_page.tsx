export function ControllersPage() {
  return null;
}

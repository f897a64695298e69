import reactHooks from "eslint-plugin-react-hooks";
import tseslint from "typescript-eslint";

export default tseslint.config(
  { ignores: ["dist", "node_modules", "src/api/contract"] },
  ...tseslint.configs.strict,
  {
    plugins: { "react-hooks": reactHooks },
    linterOptions: { reportUnusedDisableDirectives: "error" },
    rules: {
      "react-hooks/rules-of-hooks": "error",
      "react-hooks/exhaustive-deps": "error",
      eqeqeq: "error",
      "no-console": "error",
      "@typescript-eslint/consistent-type-imports": "error",
      // The bounds of an index are checked by the compiler (noUncheckedIndexedAccess); where a place is known, it says so with `as`.
      "@typescript-eslint/no-non-null-assertion": "error",
    },
  },
  { files: ["check_first_load.ts"], rules: { "no-console": "off" } },
);

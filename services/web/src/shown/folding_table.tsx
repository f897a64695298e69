/** A table whose rows fold into blocks where the screen is narrow: each cell then bears the heading of its column. */
import type { ReactNode } from "react";

/** The first column of a table names its row. */
export type Column<Row> = { heading: string; cell: (row: Row) => ReactNode; small?: boolean };

export function FoldingTable<Row>({
  rows,
  keyOf,
  columns,
  dataOf,
}: {
  rows: readonly Row[];
  keyOf: (row: Row) => string;
  columns: readonly Column<Row>[];
  dataOf?: (row: Row) => Record<`data-${string}`, string>;
}) {
  return (
    <table className="folds">
      <thead>
        <tr>
          {columns.map(({ heading }) => (
            <th key={heading} scope="col">
              {heading}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr key={keyOf(row)} {...dataOf?.(row)}>
            {columns.map(({ heading, cell, small }, index) =>
              index === 0 ? (
                <th key={heading} scope="row">
                  {cell(row)}
                </th>
              ) : (
                <td key={heading} data-label={heading} className={small ? "small" : undefined}>
                  {cell(row)}
                </td>
              ),
            )}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

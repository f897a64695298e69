/** Load, charge, capacity and capability changes on one time axis. */
import { NativeSelect, useComputedColorScheme } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { useContext, useEffect, useRef, useState } from "react";
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { type Read, read, told } from "../../api/client.ts";
import { ApiProblem } from "../../api/problem.ts";
import { numberText } from "../../shown/number.ts";
import { Moment, useUtc, Zone } from "../../shown/shown.tsx";
import { Empty, Loading, ProblemPanel } from "../../states/states.tsx";
import { words } from "../../words.ts";
import { aligned, isCapability, lastOf, type Series, stepFor, unitOf, type Value } from "./series.ts";

const REFRESH_MS = 10_000;
const LANES = 9;
const COLOURS = {
  light: ["#1a5a96", "#b4430f", "#17663a", "#7b3fa0", "#8a6100", "#9c1f54", "#0b6e75"],
  dark: ["#82bdf2", "#ffa877", "#83d8a4", "#cfa3ee", "#f0cd6a", "#f79ac0", "#74d5dc"],
};
const DASHES = [[], [6, 3], [2, 3], [10, 4, 2, 4]];

export default function LoadChart({ depotId, withCapabilities }: { depotId: string; withCapabilities: boolean }) {
  const [minutes, setMinutes] = useState("15");
  const series = useQuery({
    queryKey: ["series", depotId, minutes, withCapabilities],
    queryFn: async () => {
      const to = new Date();
      const from = new Date(to.getTime() - Number(minutes) * 60_000);
      const measures = [
        "load_kw",
        "available_capacity_kw",
        "soc_pct",
        ...(withCapabilities ? ["PEAK_SHAVING", "DER"] : []),
      ];
      const query = {
        measure: measures,
        from: from.toISOString(),
        to: to.toISOString(),
        step: stepFor(Number(minutes)),
      };
      const document = await told(read.GET("/api/depot/{depot_id}/series", { params: { path: { depot_id: depotId }, query } }));
      // The client's types forget that a point is a pair.
      return document as Read["SeriesDocument"];
    },
    refetchInterval: REFRESH_MS,
    placeholderData: keepPreviousData,
  });
  return (
    <>
      <div className="row apart end">
        <h2 id="chart">{words.chart.title}</h2>
        <NativeSelect
          size="xs"
          label={words.chart.show}
          value={minutes}
          onChange={(event) => setMinutes(event.currentTarget.value)}
          data={Object.entries(words.chart.spans).map(([value, label]) => ({ value, label }))}
        />
      </div>
      {series.data ? (
        <Drawn series={series.data.series} />
      ) : series.error ? (
        <Refused fault={series.error} retry={series.refetch} />
      ) : (
        <Loading lines={2} />
      )}
    </>
  );
}

function Refused({ fault, retry }: { fault: Error; retry: () => unknown }) {
  if (fault instanceof ApiProblem && fault.code === "NOT_FOUND") return <Empty title={words.chart.notHere} />;
  return <ProblemPanel of={fault} retry={() => void retry()} />;
}

const nameOf = (one: Series) => {
  const measure = words.chart.measures[one.measure] ?? one.measure;
  return isCapability(one.measure) ? measure : `${one.target} ${measure}`;
};

function Drawn({ series }: { series: Series[] }) {
  const told = series.filter((one) => lastOf(one) !== null);
  if (!told.length) return <Empty title={words.chart.empty}>{words.chart.emptyDo}</Empty>;
  return (
    <>
      <Plot series={told} />
      <details className="small">
        <summary>{words.chart.table}</summary>
        <div className="scrolls">
          <table>
            <thead>
              <tr>
                <th scope="col">{words.chart.measure}</th>
                <th scope="col">{words.chart.last}</th>
                <th scope="col">{words.chart.at}</th>
              </tr>
            </thead>
            <tbody>
              {told.map((one) => {
                const last = lastOf(one);
                return (
                  <tr key={`${one.measure} ${one.target}`}>
                    <td>{nameOf(one)}</td>
                    <td>{shown(one.measure, last?.value ?? null)}</td>
                    <td>
                      <Moment at={last?.at} />
                    </td>
                  </tr>
                );
              })}
            </tbody>
          </table>
        </div>
      </details>
    </>
  );
}

function shown(measure: string, value: number | null): string {
  if (value === null) return words.unknown;
  return isCapability(measure)
    ? value
      ? words.status.ON
      : words.status.OFF
    : `${numberText(value)} ${unitOf(measure)}`;
}

function Plot({ series }: { series: Series[] }) {
  const place = useRef<HTMLDivElement>(null);
  const drawn = useRef<uPlot | null>(null);
  const zone = useContext(Zone);
  const utc = useUtc();
  const scheme = useComputedColorScheme("light", { getInitialValueInEffect: false });
  const data = drawnData(series);
  const newest = useRef(data);
  newest.current = data;
  const shape = JSON.stringify(series.map((one) => [one.measure, one.target]));

  useEffect(() => {
    const element = place.current;
    if (!element) return;
    const options = chartOptions(series, scheme, utc ? "UTC" : zone, element.clientWidth);
    const plot = new uPlot(options, newest.current, element);
    drawn.current = plot;
    const watching = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: options.height }));
    watching.observe(element);
    return () => {
      watching.disconnect();
      plot.destroy();
      drawn.current = null;
    };
    // A new chart for another shape, zone or colours; new data goes into the one that is there.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [shape, zone, utc, scheme]);
  useEffect(() => {
    drawn.current?.setData(newest.current);
  });
  return (
    <div
      ref={place}
      className="chart"
      role="img"
      aria-label={`${words.chart.title}: ${series.map(nameOf).join(", ")}`}
    />
  );
}

/** Capabilities are lifted into their lanes: the first between 0 and 0.8, the next from 1 to 1.8. */
function drawnData(series: Series[]): uPlot.AlignedData {
  const { times, values } = aligned(series);
  let lane = 0;
  const lifted = values.map((row, index) => {
    if (!isCapability(series[index]?.measure ?? "")) return row;
    const base = lane++;
    return row.map((value): Value => (value === null || value === undefined ? value : base + value * 0.8));
  });
  return [times, ...lifted] as uPlot.AlignedData;
}

function chartOptions(series: Series[], scheme: "light" | "dark", zone: string, width: number): uPlot.Options {
  const style = getComputedStyle(document.documentElement);
  const ink = style.getPropertyValue("--dim").trim();
  const line = style.getPropertyValue("--line").trim();
  const font = `12px ${getComputedStyle(document.body).fontFamily}`;
  const axis = { stroke: ink, font, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 } };
  const numbers = (unit: string) => (_: uPlot, marks: number[]) => marks.map((one) => `${numberText(one)} ${unit}`);
  const stepped = uPlot.paths.stepped?.({ align: 1 });
  let lane = 0;
  return {
    width,
    height: 340,
    tzDate: (at) => uPlot.tzDate(new Date(at * 1000), zone === "UTC" ? "Etc/UTC" : zone),
    cursor: { drag: { x: false, y: false } },
    scales: {
      kW: { auto: true, range: (_, low, high) => roomBelow(low, high) },
      "%": { range: [-25, 100] },
      lane: { range: [0, LANES] },
    },
    axes: [
      {
        ...axis,
        values: [
          [86400, "{D} {MMM}", null, null, null, null, null, null, 1],
          [60, "{HH}:{mm}", null, null, null, null, null, null, 1],
          [1, "{HH}:{mm}:{ss}", null, null, null, null, null, null, 1],
        ],
      },
      { ...axis, scale: "kW", size: 76, values: numbers(words.chart.kw) },
      {
        ...axis,
        scale: "%",
        side: 1,
        size: 56,
        grid: { show: false },
        values: (_, marks) => marks.map((one) => (one < 0 ? "" : `${one} %`)),
      },
    ],
    series: [
      { label: words.chart.at, value: "{YYYY}-{MM}-{DD} {HH}:{mm}:{ss}" },
      ...series.map((one, index): uPlot.Series => {
        const colours = COLOURS[scheme];
        const capability = isCapability(one.measure);
        const base = capability ? lane++ : 0;
        return {
          label: nameOf(one),
          scale: capability ? "lane" : unitOf(one.measure),
          stroke: colours[index % colours.length],
          width: capability ? 2 : 1.5,
          dash: DASHES[Math.floor(index / colours.length) % DASHES.length],
          points: { show: false },
          paths: capability || one.measure === "available_capacity_kw" ? stepped : undefined,
          value: (_, value) =>
            value === null || value === undefined
              ? "–"
              : shown(one.measure, capability ? Math.round((value - base) / 0.8) : value),
        };
      }),
    ],
  };
}

/** Room at the foot for the lanes of the capabilities. */
function roomBelow(low: number, high: number): [number, number] {
  if (low === null || high === null) return [0, 1];
  const span = Math.max(high - low, 10);
  return [low - span * 0.32, high + span * 0.08];
}

/** One device: what its measurands are to do, what they last said, and what became of its last packets. */
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "@tanstack/react-router";
import { useState } from "react";
import { type Read, read, told } from "../../api/client.ts";
import { useDepotLive } from "../../live/depot_live.tsx";
import { Left } from "../../look/icons.tsx";
import { FoldingTable } from "../../shown/folding_table.tsx";
import { valueText } from "../../shown/number.ts";
import { Fresh, Id, Mark, Moment, OutcomeMark } from "../../shown/shown.tsx";
import { Answered, Empty } from "../../states/states.tsx";
import { words } from "../../words.ts";
import { everyPage } from "./every_page.ts";
import { EnabledMark } from "./devices_page.tsx";

const REFRESH_MS = 5_000;
const PACKETS = 20;
const w = words.devices;

export function DevicePage() {
  const { depot } = useDepotLive();
  const { deviceId } = useParams({ strict: false }) as { deviceId: string };
  const path = { device_id: deviceId };
  const device = useQuery({
    queryKey: ["device", deviceId],
    queryFn: () => told(read.GET("/api/device/{device_id}", { params: { path } })),
    refetchInterval: REFRESH_MS,
  });
  return (
    <>
      <p>
        <Link to="/depot/$depotId/devices" params={{ depotId: depot.depot_id }} className="row">
          <Left size={14} />
          {w.back}
        </Link>
      </p>
      <Answered of={device} lines={1}>
        {(data) => (
          <>
            <Heading of={data} />
            <Packets deviceId={deviceId} depotId={depot.depot_id} />
            <Measurements deviceId={deviceId} />
            <Actions deviceId={deviceId} />
          </>
        )}
      </Answered>
    </>
  );
}

function Heading({ of }: { of: Read["DeviceDocument"] }) {
  return (
    <section className="panel row apart">
      <h2>
        <Id>{of.device_id}</Id>
      </h2>
      <dl className="facts-wide">
        <div>
          <dt>{w.gateway}</dt>
          <dd>
            <Id>{of.gateway_id}</Id>
          </dd>
        </div>
        <div>
          <dt>{w.profile}</dt>
          <dd>{of.profile ?? w.noProfile}</dd>
        </div>
        <div>
          <dt>{w.circuit}</dt>
          <dd>{of.circuit_id === null ? words.none : <Id>{of.circuit_id}</Id>}</dd>
        </div>
        <div>
          <dt>{w.enabled}</dt>
          <dd>
            <EnabledMark enabled={of.enabled} />
          </dd>
        </div>
      </dl>
    </section>
  );
}

function Actions({ deviceId }: { deviceId: string }) {
  const actions = useQuery({
    queryKey: ["actions", deviceId],
    queryFn: () =>
      everyPage((cursor) =>
        told(read.GET("/api/sensor_action", { params: { query: { device_id: deviceId, ...(cursor ? { cursor } : {}) } } })),
      ),
    refetchInterval: REFRESH_MS,
  });
  return (
    <section className="panel stack tight" aria-labelledby="actions">
      <h2 id="actions">{w.actions}</h2>
      <Answered of={actions} lines={2}>
        {(items) =>
          items.length ? (
            <FoldingTable
              rows={items}
              keyOf={(one) => one.sensor_action_id}
              columns={[
                { heading: w.measurand, cell: (one) => <Id>{one.measurand}</Id> },
                { heading: w.does, cell: (one) => <Id>{one.action}</Id> },
                {
                  heading: w.target,
                  cell: (one) => (
                    <Id>{one.capability ?? one.power_source_id ?? one.circuit_id ?? <span className="dim">{w.byRouting}</span>}</Id>
                  ),
                },
                { heading: w.origin, cell: (one) => one.origin },
                { heading: w.enabled, cell: (one) => <EnabledMark enabled={one.enabled} /> },
              ]}
            />
          ) : (
            <p className="dim">{w.noActions}</p>
          )
        }
      </Answered>
    </section>
  );
}

function Measurements({ deviceId }: { deviceId: string }) {
  const measured = useQuery({
    queryKey: ["measurements", deviceId],
    queryFn: async () => {
      const latest = await told(read.GET("/api/device/{device_id}/measurement", { params: { path: { device_id: deviceId } } }));
      return { items: latest.items, answeredAt: Date.now() };
    },
    refetchInterval: REFRESH_MS,
  });
  return (
    <section className="panel stack tight" aria-labelledby="measured">
      <h2 id="measured">{w.measurements}</h2>
      <Answered of={measured} lines={2}>
        {({ items, answeredAt }) =>
          items.length ? (
            <FoldingTable
              rows={items}
              keyOf={(one) => one.measurand}
              dataOf={(one) => ({ "data-measurand": one.measurand })}
              columns={[
                { heading: w.measurand, cell: (one) => <Id>{one.measurand}</Id> },
                { heading: w.value, cell: (one) => `${valueText(one.value) ?? words.unknown} ${one.unit ?? ""}` },
                { heading: words.depots.columns.freshness, cell: (one) => <Fresh of={one} answeredAt={answeredAt} /> },
                { heading: words.load.observed, cell: (one) => <Moment at={one.observed_at} />, small: true },
              ]}
            />
          ) : (
            <p className="dim">{w.noMeasurements}</p>
          )
        }
      </Answered>
    </section>
  );
}

function Packets({ deviceId, depotId }: { deviceId: string; depotId: string }) {
  const reports = useQuery({
    queryKey: ["reports", deviceId],
    queryFn: () =>
      told(read.GET("/api/device/{device_id}/report", { params: { path: { device_id: deviceId }, query: { limit: PACKETS } } })),
    refetchInterval: REFRESH_MS,
  });
  return (
    <section className="panel stack tight" aria-labelledby="packets">
      <h2 id="packets">{w.packets}</h2>
      <Answered of={reports} lines={3}>
        {({ items }) => (items.length ? <Listed items={items} depotId={depotId} /> : <Empty title={w.noPackets}>{w.noPacketsDo}</Empty>)}
      </Answered>
    </section>
  );
}

const keyOf = (one: Read["DeviceReport"]) => `${one.packet_id} ${one.at}`;

function Listed({ items, depotId }: { items: Read["DeviceReport"][]; depotId: string }) {
  // The newest at the first look stays open while newer ones come: nobody's reading is closed or pushed about.
  const [first] = useState(() => keyOf(items[0] as Read["DeviceReport"]));
  return (
    <div>
      {items.map((one) => (
        <Packet key={keyOf(one)} of={one} open={keyOf(one) === first} depotId={depotId} />
      ))}
    </div>
  );
}

function countsOf(of: Read["DeviceReport"]): [string, number][] {
  const counts = new Map<string, number>();
  for (const one of of.events) counts.set(one.outcome, (counts.get(one.outcome) ?? 0) + 1);
  return [...counts].sort();
}

function Packet({ of, open, depotId }: { of: Read["DeviceReport"]; open: boolean; depotId: string }) {
  return (
    <details open={open} className="packet" data-packet={of.packet_id ?? ""}>
      <summary className="row">
        <Moment at={of.at} />
        <Id>{of.packet_id ?? w.noId}</Id>
        <span className="small dim">
          {countsOf(of)
            .map(([outcome, count]) => `${count} ${outcome}`)
            .join(", ")}
        </span>
        {of.dead_letters.length ? <Mark tone="bad">{words.depots.letters(of.dead_letters.length)}</Mark> : null}
      </summary>
      <table className="folds">
        <thead>
          <tr>
            <th scope="col">{w.measurand}</th>
            <th scope="col">{w.outcome}</th>
            <th scope="col">{w.value}</th>
            <th scope="col">{w.rule}</th>
            <th scope="col">{words.events.what}</th>
          </tr>
        </thead>
        <tbody>
          {of.dead_letters.map((one) => (
            <tr key={one.dead_letter_id}>
              <th scope="row">
                <Link to="/depot/$depotId/dead-letters" params={{ depotId }} search={{ letter: one.dead_letter_id } as never}>
                  {w.letter}
                </Link>
              </th>
              <td data-label={w.outcome}>
                <OutcomeMark outcome={one.reason_code} />
              </td>
              <td data-label={words.deadLetters.detail} colSpan={3}>
                {one.detail}
              </td>
            </tr>
          ))}
          {of.events.map((one) => (
            <tr key={one.event_id} data-event={one.event_id}>
              <th scope="row">
                <Id>{one.measurand ?? words.none}</Id>
              </th>
              <td data-label={w.outcome}>
                <OutcomeMark outcome={one.outcome} />
              </td>
              <td data-label={w.value}>{valueText(one.raw_value) ?? words.unknown}</td>
              <td data-label={w.rule}>
                <Id>{one.rule ?? words.none}</Id>
              </td>
              <td data-label={words.events.what} className="small">
                <span>{one.event_type}</span>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </details>
  );
}

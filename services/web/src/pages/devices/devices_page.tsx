/** The gateways of a depot, and the devices behind each. */
import { useQuery } from "@tanstack/react-query";
import { Link } from "@tanstack/react-router";
import { type Read, read, told } from "../../api/client.ts";
import { useDepotLive } from "../../live/depot_live.tsx";
import { Check, Cross } from "../../look/icons.tsx";
import { FoldingTable } from "../../shown/folding_table.tsx";
import { Id, Mark } from "../../shown/shown.tsx";
import { Answered, Empty } from "../../states/states.tsx";
import { words } from "../../words.ts";
import { everyPage } from "./every_page.ts";

const LIMIT = 500;
const REFRESH_MS = 15_000;

export const devicesQuery = (depotId: string) => ({
  queryKey: ["devices", depotId],
  queryFn: async () => {
    const query = (cursor: string | undefined) => ({ depot_id: depotId, limit: LIMIT, ...(cursor ? { cursor } : {}) });
    const [gateways, devices, actions] = await Promise.all([
      everyPage((cursor) => told(read.GET("/api/gateway", { params: { query: query(cursor) } }))),
      everyPage((cursor) => told(read.GET("/api/device", { params: { query: query(cursor) } }))),
      everyPage((cursor) => told(read.GET("/api/sensor_action", { params: { query: query(cursor) } }))),
    ]);
    return { gateways, devices, actions };
  },
});

export function DevicesPage() {
  const { depot } = useDepotLive();
  const found = useQuery({ ...devicesQuery(depot.depot_id), refetchInterval: REFRESH_MS });
  return (
    <Answered of={found}>
      {({ gateways, devices, actions }) =>
        gateways.length || devices.length ? (
          gateways.map((one) => (
            <Gateway
              key={one.gateway_id}
              of={one}
              devices={devices.filter((device) => device.gateway_id === one.gateway_id)}
              actions={actions}
            />
          ))
        ) : (
          <section className="panel">
            <Empty title={words.devices.empty}>{words.devices.emptyDo}</Empty>
          </section>
        )
      }
    </Answered>
  );
}

export function EnabledMark({ enabled }: { enabled: boolean }) {
  return enabled ? (
    <Mark tone="good" icon={<Check size={14} />}>
      {words.devices.enabled}
    </Mark>
  ) : (
    <Mark icon={<Cross size={14} />}>{words.devices.disabled}</Mark>
  );
}

function Gateway({
  of,
  devices,
  actions,
}: {
  of: Read["GatewayDocument"];
  devices: Read["DeviceDocument"][];
  actions: Read["SensorActionDocument"][];
}) {
  const w = words.devices;
  const outputs = Object.entries(of.model_outputs);
  return (
    <section className="panel stack tight" aria-label={`${w.gateway} ${of.name}`}>
      <div className="row apart">
        <h2 className="row">
          <span>{of.name}</span> <Id>{of.gateway_id}</Id>
        </h2>
        <span className="small dim">
          {of.site_model_name === null ? w.noSiteModel : `${w.siteModel} ${of.site_model_name}`}
        </span>
      </div>
      {outputs.length ? (
        <p className="small">
          <span className="dim">{w.outputs}:</span>{" "}
          {outputs.map(([key, action]) => (
            <span key={key} style={{ marginRight: "1rem" }}>
              <Id>{key}</Id> → <Id>{action}</Id> <Id>{of.output_translation[key]}</Id>
            </span>
          ))}
        </p>
      ) : null}
      {devices.length ? (
        <FoldingTable
          rows={devices}
          keyOf={(one) => one.device_id}
          columns={[
            {
              heading: w.device,
              cell: (one) => (
                <Link to="/depot/$depotId/devices/$deviceId" params={{ depotId: one.depot_id, deviceId: one.device_id }}>
                  {one.device_id}
                </Link>
              ),
            },
            { heading: w.profile, cell: (one) => one.profile ?? <span className="dim">{w.noProfile}</span> },
            {
              heading: w.circuit,
              cell: (one) => (one.circuit_id === null ? <span className="dim">{words.none}</span> : <Id>{one.circuit_id}</Id>),
            },
            { heading: w.actions, cell: (one) => actions.filter((action) => action.device_id === one.device_id).length },
            { heading: w.enabled, cell: (one) => <EnabledMark enabled={one.enabled} /> },
          ]}
        />
      ) : (
        <p className="dim">{words.none}</p>
      )}
    </section>
  );
}

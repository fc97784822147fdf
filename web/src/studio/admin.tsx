import type { JSX } from "preact";
import { useEffect } from "preact/hooks";
import { events, eventsCursor, loadEvents, nodes, queue, setPaused, watchServer } from "../state/admin";
import type { ServerNode } from "../state/admin";
import { KeyList } from "./admin-keys";
import { ago, bytes, count, duration, when } from "./words";

function Figure({ name, value }: { name: string; value: string }): JSX.Element {
  return (
    <div class="figure">
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

function Queue(): JSX.Element {
  const now = queue.value;
  const wait = now?.estimatedWaitSeconds;
  return (
    <section class="sheet" aria-labelledby="queue-title">
      <div class="row between">
        <h2 id="queue-title">Queue</h2>
        {now !== null && (
          <button type="button" onClick={() => void setPaused(!now.paused)}>
            {now.paused ? "Resume" : "Pause"}
          </button>
        )}
      </div>
      {now?.paused && <p class="problem mild">The queue is paused on all nodes. What runs goes on; what waits, waits.</p>}
      {now === null ? (
        <p class="muted">Listening …</p>
      ) : (
        <dl class="figures" aria-live="off">
          <Figure name="Waiting" value={count(now.queued)} />
          <Figure name="Running" value={count(now.running)} />
          <Figure name="Done in the last minute" value={count(now.succeededLastMinute)} />
          <Figure name="A new one takes" value={wait === null || wait === undefined ? "not known yet" : duration(wait)} />
          {now.depth.map(({ priority, queued }) => (
            <Figure key={priority} name={priority === "AGENT" ? "Waiting, of agents" : "Waiting, of people"} value={count(queued)} />
          ))}
          {now.oldestQueuedAt && <Figure name="Longest wait" value={duration((Date.now() - Date.parse(now.oldestQueuedAt)) / 1000)} />}
        </dl>
      )}
    </section>
  );
}

type Device = ServerNode["devices"][number];

function DeviceLine({ device }: { device: Device }): JSX.Element {
  const { kind, name, gpuBatchSize, memoryFreeBytes, memoryTotalBytes, lost } = device;
  const title = kind === "cpu" ? "CPU" : name;
  if (lost) {
    return (
      <li>
        <s>{title}</s>
        <span class="bad"> · lost</span>
        <p class="muted small">{lost}</p>
      </li>
    );
  }
  return (
    <li>
      {title}
      <span class="muted">
        {` · up to ${gpuBatchSize} at once`}
        {memoryFreeBytes && memoryTotalBytes ? ` · ${bytes(memoryFreeBytes)} of ${bytes(memoryTotalBytes)} free` : ""}
      </span>
    </li>
  );
}

/** What a node has lost, and what to do about it. */
function Loss({ node }: { node: ServerNode }): JSX.Element {
  const lost = node.devices.filter((device) => device.lost).length;
  const left = node.devices.length - lost;
  const what = lost === 1 ? "A device failed" : `${lost} devices failed`;
  const rest = left === 0 ? "It takes no conversions." : `It goes on with the ${left === 1 ? "other one" : `other ${left}`}, slower.`;
  return (
    <p class="problem mild">
      <strong>{`${node.name} is degraded.`}</strong> {`${what}. ${rest} A restart of the node tries again.`}
    </p>
  );
}

function Devices({ node }: { node: ServerNode }): JSX.Element {
  if (node.devices.length === 0) return <span class="muted">none</span>;
  return (
    <ul class="plain">
      {node.devices.map((device, index) => (
        <DeviceLine key={index} device={device} />
      ))}
    </ul>
  );
}

function NodeList(): JSX.Element {
  return (
    <section class="sheet" aria-labelledby="nodes-title">
      <h2 id="nodes-title">Nodes</h2>
      {nodes.value.filter((node) => node.degraded).map((node) => (
        <Loss key={node.id} node={node} />
      ))}
      <div class="scroll" tabIndex={0} role="region" aria-label="Nodes, a table">
        <table>
          <thead>
            <tr>
              <th scope="col">Machine</th>
              <th scope="col">Does</th>
              <th scope="col">Devices</th>
              <th scope="col">Version</th>
              <th scope="col">Started</th>
              <th scope="col">Last heard</th>
            </tr>
          </thead>
          <tbody>
            {nodes.value.map((node) => (
              <tr key={node.id}>
                <th scope="row">{node.name}</th>
                <td>{node.role === "all" ? "everything" : node.role}</td>
                <td>
                  <Devices node={node} />
                </td>
                <td>{node.version}</td>
                <td title={when(node.startedAt)}>{ago(node.startedAt)}</td>
                <td title={when(node.heartbeatAt)}>{ago(node.heartbeatAt)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function Audit(): JSX.Element {
  useEffect(() => void loadEvents(false), []);
  return (
    <section class="sheet" aria-labelledby="audit-title">
      <div class="row between">
        <h2 id="audit-title">Audit log</h2>
        <button type="button" onClick={() => void loadEvents(false)}>Look again</button>
      </div>
      <div class="scroll" tabIndex={0} role="region" aria-label="Audit log, a table">
        <table>
          <thead>
            <tr>
              <th scope="col">When</th>
              <th scope="col">Who</th>
              <th scope="col">What</th>
              <th scope="col">Outcome</th>
              <th scope="col">From</th>
            </tr>
          </thead>
          <tbody>
            {events.value.map((event) => (
              <tr key={event.id}>
                <td title={when(event.at)}>{ago(event.at)}</td>
                <td>{event.actor ?? (event.keyId ? `claims ${event.keyId}` : "a stranger")}</td>
                <td>
                  {event.operation ?? "not read"}
                  {event.count > 1 ? ` × ${event.count}` : ""}
                </td>
                <td class={event.outcome === "OK" ? "" : "bad"}>{event.outcome}</td>
                <td>{event.address}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {events.value.length === 0 && <p class="muted">Nothing was changed or refused yet.</p>}
      {eventsCursor.value !== null && (
        <button type="button" class="more" onClick={() => void loadEvents(true)}>Show more</button>
      )}
    </section>
  );
}

export function AdminPage(): JSX.Element {
  useEffect(watchServer, []);
  return (
    <main id="main" class="admin">
      <h1>Admin</h1>
      <Queue />
      <NodeList />
      <KeyList />
      <Audit />
    </main>
  );
}

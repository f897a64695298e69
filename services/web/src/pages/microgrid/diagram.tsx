/** The structure as a diagram that can be moved and zoomed, by keyboard too. The tree says the same in words. */
import { Background, Controls, type Edge, Handle, type Node, type NodeProps, Position, ReactFlow } from "@xyflow/react";
import "@xyflow/react/dist/style.css";
import { useComputedColorScheme } from "@mantine/core";
import { useMemo } from "react";
import { words } from "../../words.ts";
import { factsOf, nameOf } from "./facts.ts";
import { placed, type StructureNode } from "./structure.ts";

const COLUMN_PX = 245;
const DEPTH_PX = 110;
const ROW_PX = 62;
const INDENT_PX = 18;
type Box = Node<{ of: StructureNode }, "box">;

function BoxOf({ data }: NodeProps<Box>) {
  const { of } = data;
  return (
    <div className={`box box-${of.kind}`}>
      <Handle type="target" position={Position.Top} isConnectable={false} />
      <strong>{nameOf(of)}</strong>
      <span className="small" title={factsOf(of)}>
        {factsOf(of)}
      </span>
      <Handle type="source" position={Position.Bottom} isConnectable={false} />
    </div>
  );
}

const KINDS = { box: BoxOf };

export default function Diagram({ roots }: { roots: StructureNode[] }) {
  const colorMode = useComputedColorScheme("light", { getInitialValueInEffect: false });
  const { nodes, edges } = useMemo(() => {
    const all = placed(roots);
    const nodes: Box[] = all.map(({ node, column, depth, row, indent }) => ({
      id: node.key,
      type: "box",
      position: { x: column * COLUMN_PX + indent * INDENT_PX, y: depth * DEPTH_PX + row * ROW_PX },
      data: { of: node },
      ariaLabel: [nameOf(node), factsOf(node)].filter(Boolean).join(", "),
    }));
    const edges: Edge[] = all.flatMap(({ node, parent }) =>
      parent === null ? [] : [{ id: `${parent} to ${node.key}`, source: parent, target: node.key, type: "smoothstep", focusable: false }],
    );
    return { nodes, edges };
  }, [roots]);
  return (
    <section className="diagram" aria-label={words.microgrid.diagramLabel}>
      <ReactFlow
        nodes={nodes}
        edges={edges}
        nodeTypes={KINDS}
        colorMode={colorMode}
        fitView
        minZoom={0.1}
        nodesDraggable={false}
        nodesConnectable={false}
        edgesFocusable={false}
        proOptions={{ hideAttribution: true }}
      >
        <Background />
        <Controls showInteractive={false} />
      </ReactFlow>
    </section>
  );
}

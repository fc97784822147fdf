/** The list of example operations, in GraphiQL's side bar. A chosen one opens in a tab of its own. */
import { useGraphiQL, useGraphiQLActions } from "@graphiql/react";
import type { GraphiQLPlugin } from "@graphiql/react";
import { createElement as h } from "react";
import type { ReactElement } from "react";
import { EXAMPLES } from "./examples";
import type { Example } from "./examples";

function Symbol(): ReactElement {
  const shape = { fill: "none", stroke: "currentColor", strokeWidth: 1.6, strokeLinejoin: "round" as const };
  return h("svg", { viewBox: "0 0 24 24", "aria-hidden": true, ...shape }, h("path", { d: "M6 3h12v18l-6-4-6 4z" }));
}

function List(): ReactElement {
  const { addTab } = useGraphiQLActions();
  const editors = useGraphiQL(({ queryEditor, variableEditor }) => ({ queryEditor, variableEditor }));
  const open = ({ query, variables }: Example): void => {
    addTab();
    // The editors show the new tab now; what they are given becomes its own.
    editors.queryEditor?.setValue(query);
    editors.variableEditor?.setValue(variables === undefined ? "" : JSON.stringify(variables, null, 2));
  };
  return h(
    "section",
    { className: "examples", "aria-label": "Examples" },
    h("h2", { className: "graphiql-doc-explorer-title" }, "Examples"),
    h(
      "ul",
      null,
      EXAMPLES.map((example) =>
        h(
          "li",
          { key: example.name },
          h(
            "button",
            { type: "button", className: "graphiql-un-styled", onClick: () => open(example) },
            h("strong", null, example.name),
            h("span", null, example.about),
          ),
        ),
      ),
    ),
  );
}

export const EXAMPLES_PLUGIN: GraphiQLPlugin = { title: "Examples", icon: Symbol, content: List };

/** Operations to begin with. Each is checked against schema.graphql when it is built. */
export interface Example {
  readonly name: string;
  readonly about: string;
  readonly query: string;
  readonly variables?: Readonly<Record<string, unknown>>;
}

/** A grey square of 64 pixels with a darker disc: something to submit where no file is at hand. */
const PICTURE =
  "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAApklEQVR42u3awRWAIBAD0RTm2SLo/2YTtrCAuGEZngXMvylRz+ZHAAAAAAAAAIA6gHZfkccOEOxeIVFW+lcMpddPGuRQP2OQQ/oMQ1b1A4bDAD/U9xpkWN9lkGd93HAGIKU+aADgD0isjxgAAAAAAAAAAAAA8DoNYC2Aj3oDwPb3QhVu5rjc9QBsvw9UWGiKbGQVVsoKO3GRpZ6fPQAAAAAAAICx8wJh7t900iz4HAAAAABJRU5ErkJggg==";

export const EXAMPLES: readonly [Example, ...Example[]] = [
  {
    name: "Who am I?",
    about: "Your permissions and what is left of your quota.",
    query: /* GraphQL */ `query WhoAmI {
  viewer {
    name
    owner
    permissions
    expiresAt
    quota { conversionsToday conversionsPerDay conversionsActive conversionsAtOnce requestsRemaining }
  }
}
`,
  },
  {
    name: "Submit a picture",
    about: "In base64; programs rather upload files.",
    query: /* GraphQL */ `mutation Submit($input: SubmitConversionInput!) {
  submitConversion(input: $input) {
    conversion { id status queuePosition etaSeconds }
  }
}
`,
    variables: { input: { image: { base64: PICTURE }, options: { formats: ["GLB", "STL"] } } },
  },
  {
    name: "Follow a conversion",
    about: "Progress as it happens. Put the id of a submission into the variables.",
    query: /* GraphQL */ `subscription Follow($id: ID!) {
  conversionProgress(id: $id) { status stage progress etaSeconds sequence preview { url } }
}
`,
    variables: { id: "cnv_…" },
  },
  {
    name: "Latest conversions",
    about: "An admin sees every owner's.",
    query: /* GraphQL */ `query Latest {
  conversions(first: 10) {
    nodes {
      id owner status progress createdAt
      error { code message }
      outputs { format url triangles }
    }
    pageInfo { hasNextPage endCursor }
  }
}
`,
  },
  {
    name: "Watch the queue",
    about: "A subscription that never ends by itself.",
    query: /* GraphQL */ `subscription Queue {
  queueStatus { queued running paused estimatedWaitSeconds succeededLastMinute depth { priority queued } }
}
`,
  },
  {
    name: "Nodes",
    about: "The server's processes and what they compute with.",
    query: /* GraphQL */ `query Nodes {
  nodes {
    id name role version startedAt heartbeatAt degraded
    devices { kind name gpuBatchSize memoryFreeBytes memoryTotalBytes lost }
  }
}
`,
  },
  {
    name: "Keys",
    about: "Who may call, and how much.",
    query: /* GraphQL */ `query Keys {
  apiKeys(first: 50) {
    nodes {
      id name permissions lastUsedAt expiresAt revokedAt
      quotas { requestsPerMinute conversionsAtOnce conversionsPerDay imagesPerBatch }
    }
  }
}
`,
  },
  {
    name: "Change a key's quotas",
    about: "What isn't named stays.",
    query: /* GraphQL */ `mutation ChangeQuotas($input: UpdateApiKeyInput!) {
  updateApiKey(input: $input) {
    apiKey { id name quotas { requestsPerMinute conversionsAtOnce conversionsPerDay imagesPerBatch } }
  }
}
`,
    variables: { input: { id: "ofk_…", requestsPerMinute: 60, conversionsPerDay: 500 } },
  },
  {
    name: "Audit log: refusals",
    about: "What was refused lately, and to whom.",
    query: /* GraphQL */ `query Refusals {
  auditEvents(first: 50, filter: { kind: [REFUSAL, REFUSALS] }) {
    nodes { at kind actor keyId operation outcome count address requestId }
    pageInfo { hasNextPage endCursor }
  }
}
`,
  },
  {
    name: "Pause the queue",
    about: "On all nodes; what runs goes on. resumeQueue starts it again.",
    query: /* GraphQL */ `mutation Pause {
  pauseQueue { paused queued running }
}
`,
  },
];

// Lists, creates, changes and deletes a route with the types that openapi-typescript has made.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./gateway";

const client = createClient<paths>({
  baseUrl: process.env.GATEWAY,
  headers: { Authorization: `Bearer ${process.env.TOKEN}` },
});

const before = await client.GET("/api/v1/config/routes", { params: { query: { per_page: 10, labels: ["a=b", "c"] } } });
assert.equal(before.data?.meta.total, 0);

const wish: components["schemas"]["RouteInput"] = {
  name: "typescript",
  path: "/typescript/*",
  methods: ["GET"],
  direct_response: { status: 200, body: "hello" },
};
const created = await client.POST("/api/v1/config/routes", { body: wish });
assert.equal(created.response.status, 201);
assert.ok(created.data);
const success: true = created.data.success;
assert.ok(success);
const route: components["schemas"]["Route"] = created.data.data;
assert.equal(route.direct_response?.body, "hello");
assert.equal(created.response.headers.get("Location"), `/api/v1/config/routes/${route.id}`);

const again = await client.POST("/api/v1/config/routes", { body: wish });
assert.equal(again.response.status, 409);
assert.equal(again.error?.error.code, "ALREADY_EXISTS");

const at = { params: { path: { id: "typescript" } } };
const patched = await client.PATCH("/api/v1/config/routes/{id}", {
  ...at,
  body: { priority: 7, methods: null },
  headers: { "Content-Type": "application/merge-patch+json" },
});
assert.equal(patched.data?.data.priority, 7);
assert.deepEqual(patched.data?.data.methods, []);

const put = await client.PUT("/api/v1/config/routes/{id}", {
  params: { path: { id: route.id }, header: { "If-Match": '"2"' } },
  body: { ...patched.data!.data, path: "/ts/*" },
});
assert.equal(put.data?.data.path, "/ts/*");
const late = await client.PUT("/api/v1/config/routes/{id}", {
  params: { path: { id: route.id }, header: { "If-Match": '"2"' } },
  body: wish,
});
assert.equal(late.response.status, 412);
assert.equal(late.error?.error.current_version, 3);

const deleted = await client.DELETE("/api/v1/config/routes/{id}", at);
assert.equal(deleted.data?.success, true);
const gone = await client.GET("/api/v1/config/routes/{id}", at);
assert.equal(gone.error?.error.code, "NOT_FOUND");
console.log("done");

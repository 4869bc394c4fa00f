//go:build race

package storetest

// The race detector makes the embedded engine, C translated to Go, twenty times slower.
const manyServices, manyRoutes = 200, 2_000

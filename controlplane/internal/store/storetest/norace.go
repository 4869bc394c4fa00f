//go:build !race

package storetest

const manyServices, manyRoutes = 10_000, 100_000

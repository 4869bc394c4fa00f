//go:build !race

package storetest

const manyServices, manyRoutes = 4_000, 40_000

//go:build !linux || gateway_plain_sockets

package proxy

// waiting is how many buffers connections of the tests that wait for bytes hold: one each.
const waiting = 4

//go:build !linux

package sql

import "syscall"

// limitUnacknowledged does nothing: the keep-alive probes end dead connections here.
func limitUnacknowledged(string, string, syscall.RawConn) error { return nil }

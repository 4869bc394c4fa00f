package http2

import "gateway.internal/shared/fault"

// A defect of the codec's own ends the connection in whose goroutine it happens: nobody knows the state of that.
// Where it happens in the goroutine of an exchange, it is the proxy that recovers, and that exchange ends alone.
// Either way the mutex is not held any more: what is done under it gives it back by a deferred call.

// errDefect is what the exchanges on a connection to a service end with after a panic.
var errDefect = &fault.Error{Code: fault.Internal, Reason: "the gateway has failed"}

// rescue is deferred where a goroutine of the connection ends: a panic ends the connection.
func (c *connection) rescue() {
	v := recover()
	if v == nil {
		return
	}
	c.defect(v)
	defer func() {
		_ = recover() // what is broken is what would have to clean up
		c.sock.Abort()
	}()
	c.kill(errDefect)
}

// defect tells of a panic, of one on each connection: what follows is of that one. Where nobody wants to know, it
// goes on.
func (c *connection) defect(v any) {
	if c.panicked == nil {
		panic(v)
	}
	if !c.defective.CompareAndSwap(false, true) {
		return
	}
	c.panicked("a connection over HTTP/2", "", v)
}

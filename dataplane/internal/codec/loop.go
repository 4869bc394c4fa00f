package codec

import (
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/socket"
)

// LoopHandler is a Handler that can serve in a loop too.
type LoopHandler interface {
	Handler
	// Start does what Serve does, but does not wait. It reports whether the exchange is over. Otherwise the exchange
	// goes on by itself and calls conn.Over at its end. Before anything that waits it calls conn.Leave, in a goroutine
	// of its own.
	Start(x *exchange.Exchange, conn LoopConn) (over bool)
}

// LoopConn is the client connection of an exchange that is served in a loop.
type LoopConn interface {
	// Loop is the loop.
	Loop() *socket.Loop
	// Leave takes the connection out of the loop: the methods of x.Down may wait from then on, and so may Over.
	Leave()
	// Flush sends the response that WriteHead has kept for the end of the iteration: a whole and small one of the
	// service's.
	Flush() error
	// Over goes on with the connection after the exchange.
	Over()
}

// LoopRequester is a connection to a service that sends requests, and receives the responses, in a loop. The exchange
// that has it owns it; its methods are called on the loop's goroutine, until Leave.
type LoopRequester interface {
	// Prepare makes Dispatch send a whole request, and waiter be called about the response. It reports whether that can
	// be done in the loop; otherwise nothing happens.
	Prepare(x *exchange.Exchange, part []byte, loop *socket.Loop, waiter ResponseWaiter) bool
	// Dispatch sends the request that was prepared, without waiting. It reports whether the request has left: then the
	// waiter, when it is called, owns the connection. Otherwise nobody is called, and the endpoint has nothing of the
	// request or, where there is an error, a part of it.
	Dispatch() (left bool, err error)
	// Collect takes what there is of the response, without waiting. started tells that something of the response came.
	Collect(x *exchange.Exchange) (at Progress, started bool, err error)
	// Leave takes the connection out of its loop, if it is in one: its methods may wait then.
	Leave()
	// Wait waits for the head of the response to the request that was dispatched, after Leave.
	Wait(x *exchange.Exchange, timeout time.Duration) (started bool, err error)
}

// ResponseWaiter waits for the response to a request that was dispatched in a loop.
type ResponseWaiter interface {
	// Answered is called on a loop's goroutine when bytes have come or the connection is over: Collect tells which.
	Answered()
	// Late is called on another goroutine instead, when nothing has come for too long to wait in a loop: the exchange
	// goes on waiting apart.
	Late()
}

// Progress is how far a response has come.
type Progress uint8

// The stages.
const (
	// Incomplete is a response that has to be waited for, apart from the loop.
	Incomplete Progress = iota
	// Receiving is a response whose body comes soon: Answered or Late will be called again, or have been, and the
	// exchange is not the caller's any more.
	Receiving
	// Complete is a response whose head is in x.Response, and of whose body BufferedBody returns what there is, without
	// waiting.
	Complete
)

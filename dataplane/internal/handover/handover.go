// Package handover replaces a running process by another one, which may be of another build, without refusing a
// connection. The running process (Door) and its successor (which finds a Predecessor) meet at a Unix socket in the
// data folder. It knows sockets, and the steps in which they and the right to write to the data folder change hands; it
// does not know what is served, nor how a process comes to be ready.
//
//	successor                     running process
//	hello        ------------>                                who asks, of which build
//	             <------------    offer                       the listening sockets, as descriptors (unix(7), SCM_RIGHTS)
//	ready        ------------>                                everything that does not need the data folder is set up
//	             <------------    go                          the running process writes nothing there any more
//	taken        ------------>                                the successor accepts connections from now on
//	             <------------    bye                         and the other one does not
//
// Until "taken" the running process serves all connections, and goes on as if nothing had happened when the successor
// fails, says nothing in time or dies. Both have the same sockets, so a connection that waits to be accepted waits
// through all of this. A running process that dies after its offer is replaced all the same.
//
// Only processes of the same user are spoken with, and every message has to be exactly what the version of the protocol
// says.
package handover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// SocketName is the name of the Unix socket in the data folder.
const SocketName = "handover.sock"

func socketPath(dir string) string { return filepath.Join(dir, SocketName) }

// StepTimeout is the longest that a successor may take to be ready, and then to bring its configuration in force.
const StepTimeout = 2 * time.Minute

// sendTimeout is how long a message may take to leave.
const sendTimeout = 5 * time.Second

// patience is how long is waited for what the other side says.
type patience struct {
	hello, offer, ready, letGo, taken, bye time.Duration
}

// usual gives an offer long, since another successor may be on its way.
var usual = patience{hello: 10 * time.Second, offer: 30 * time.Second, ready: StepTimeout, letGo: 30 * time.Second, taken: StepTimeout, bye: 5 * time.Second}

// Estate is what passes over.
type Estate struct {
	// Build is the version of the program, for the log.
	Build string
	// Instance is what control planes tell the process by; empty: it follows none.
	Instance string
	// TicketSecret is what TLS session tickets are derived from; empty: they are not to be taken over.
	TicketSecret []byte
	// Sockets are the listening sockets, at most MaxSockets.
	Sockets Sockets
	// Lock is the locked file of the data folder; nil: the process does not write there.
	Lock *os.File
}

// Version is a configuration in force.
type Version struct {
	Epoch string
	// Revision is 0 when none is.
	Revision uint32
}

// ErrNobody is returned when no process that could be replaced uses the data folder.
var ErrNobody = errors.New("no running node has this data folder")

// stepError tells at which message of the hand-over the other side was lost.
type stepError struct {
	kind kind
	told bool // it was to be told the message; otherwise it was to say it
	err  error
}

func (e *stepError) Error() string {
	verb := "said"
	if e.told {
		verb = "was told"
	}
	switch {
	case errors.Is(e.err, io.EOF):
		return fmt.Sprintf("it has ended before it %s %q", verb, e.kind)
	case e.told:
		return fmt.Sprintf("it could not be told %q: %v", e.kind, e.err)
	case errors.Is(e.err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("it has not said %q in time", e.kind)
	}
	return fmt.Sprintf("waiting for %q: %v", e.kind, e.err)
}

func (e *stepError) Unwrap() error { return e.err }

// refusedError is what the running process, or the successor, gives as its reason to end the hand-over.
type refusedError struct{ reason string }

func (e *refusedError) Error() string { return e.reason }

package listener

import (
	"net"
	"sync/atomic"

	"gateway.internal/dataplane/internal/exchange"
)

// visit is a connection as it is counted, from when it was accepted until it is over.
type visit struct {
	l       *Listener
	peer    *exchange.Peer
	entered bool // it counts for the limit
	counted bool // and for its client's
	over    atomic.Bool
}

// end counts the end of the connection, once.
func (v *visit) end() {
	if v.over.Swap(true) {
		return
	}
	if v.counted {
		v.l.set.Limit.dismiss(v.peer.Client.Addr())
	}
	if v.entered {
		v.l.set.Limit.leave()
	}
	v.l.set.Counters.Connections(-1)
	v.l.wg.Done()
}

// rescue is deferred by what works on the connection: a panic, which servers have not recovered from, ends it alone.
func (v *visit) rescue(nc net.Conn) {
	if defect := recover(); defect != nil {
		v.l.panics.Contained("the beginning of a connection", defect)
		_ = nc.Close()
		v.end()
	}
}

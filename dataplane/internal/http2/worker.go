package http2

// maxIdleWorkers is how many workers of a connection wait for its next requests at most.
const maxIdleWorkers = 16

// worker is a goroutine that runs exchanges of one connection, one after the other. A new goroutine for each exchange
// would grow its stack anew every time (make bench, HTTP/2). A connection that rests has none.
type worker struct {
	next  chan *serverStream // closed: there is none
	rests bool               // it is among the idle ones, or has been given a stream there; its own
}

// takeWorker returns an idle worker for a stream; nil: there is none. The last one to become idle has its stack in the
// cache. The mutex is held.
func (c *serverConn) takeWorker() *worker {
	n := len(c.idleWorkers)
	if n == 0 {
		return nil
	}
	w := c.idleWorkers[n-1]
	c.idleWorkers[n-1] = nil
	c.idleWorkers = c.idleWorkers[:n-1]
	return w
}

// start has the exchange of a stream run, by a worker or, where that is nil, a new one.
func (c *serverConn) start(s *serverStream, w *worker) {
	c.running.Add(1)
	if w != nil {
		w.next <- s // there is room: it has been given no other one
		return
	}
	c.workers.Go(func() { c.work(s) })
}

// work runs the exchange of a stream, and then those of others.
func (c *serverConn) work(s *serverStream) {
	w := &worker{next: make(chan *serverStream, 1)}
	for s != nil {
		w.rests = false
		s.run(w)
		if !w.rests {
			return
		}
		s = <-w.next
	}
}

// rest makes a worker an idle one, from where it ends its exchange, if there are not too many. The mutex is held.
func (c *serverConn) rest(w *worker) {
	if len(c.idleWorkers) < maxIdleWorkers && c.err == nil {
		c.idleWorkers = append(c.idleWorkers, w)
		w.rests = true
	}
}

// dismiss ends the idle workers.
func (c *serverConn) dismiss() {
	c.locked(func() {
		for i, w := range c.idleWorkers {
			close(w.next)
			c.idleWorkers[i] = nil
		}
		c.idleWorkers = c.idleWorkers[:0]
	})
}

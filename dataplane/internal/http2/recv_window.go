package http2

// recvWindow is the receiving side of a flow-control window (RFC 9113 section 5.2). Every byte of the window is in one
// of three places: the peer may send it (open), it has come and waits here (held), or it is done with and has not been
// granted anew yet (spent). They always add up to the window's size.
type recvWindow struct{ size, open, held, spent int64 }

// reset makes the window one that the peer may send all of.
func (w *recvWindow) reset(size int64) { *w = recvWindow{size: size, open: size} }

// receive takes n bytes that have come, and reports false where the peer was not allowed to send them.
func (w *recvWindow) receive(n int) bool {
	if int64(n) > w.open {
		return false
	}
	w.open -= int64(n)
	w.held += int64(n)
	return true
}

// done says that n bytes that had come wait no more: they were passed on, or thrown away.
func (w *recvWindow) done(n int) {
	w.held -= int64(n)
	w.spent += int64(n)
}

// grant returns how much the peer is to be told that it may send anew; 0: too little for a frame.
func (w *recvWindow) grant(least int64) uint32 {
	if w.spent < least {
		return 0
	}
	n := w.spent
	w.open += n
	w.spent = 0
	return uint32(n)
}

package attempt

import "time"

// kept is what one attempt after the other has sent of a request's body that did not come whole with its head. The
// upload writes it, and whoever has waited for the upload's end reads it.
type kept struct {
	bytes []byte
	limit int
	whole bool          // it is all of the body
	over  bool          // there was more than the limit
	full  chan struct{} // closed when that is so
}

// add takes a part in.
func (k *kept) add(part []byte) {
	switch {
	case k == nil || k.over:
	case len(k.bytes)+len(part) > k.limit:
		k.bytes, k.over = nil, true
		close(k.full)
	default:
		k.bytes = append(k.bytes, part...)
	}
}

// end says that the body is over.
func (k *kept) end() {
	if k != nil {
		k.whole = !k.over
	}
}

// wants reports whether the rest of the body is to be read although the endpoint takes no more.
func (k *kept) wants() bool { return k != nil && !k.over }

// keep returns where the body is kept that an upload is about to send, whatever its method: a request that an endpoint
// has not looked at may always be sent again. nil: it is not kept, since it is too long or there is no other attempt.
func (a *Attempts) keep() *kept {
	if a.Retries == nil || a.Request.Whole || a.isLast() {
		return nil
	}
	limit := a.Retries.KeptBytes
	if len(a.Request.Bytes) > limit || a.Exchange.Request.ContentLength > int64(limit) {
		return nil
	}
	k := &kept{limit: limit, full: make(chan struct{})}
	k.add(a.Request.Bytes)
	return k
}

// bodyKept reports whether the request can be sent again as far as its body is concerned, and has the next attempt send
// what was kept of it. Where a part of it may still be on its way, that is waited for: the attempt is given up then.
// headed tells that there is a response, which is not given up for a body that may not come.
func (a *Attempts) bodyKept(headed bool) bool {
	if a.Request.Whole {
		return len(a.Request.Bytes) <= a.Retries.KeptBytes
	}
	u := a.upload
	if u == nil {
		return true // nothing of it was read
	}
	k := u.kept
	if k == nil {
		return false
	}
	if headed {
		u.over(lastPart)
	} else if !u.over(0) {
		u.state.CompareAndSwap(underWay, stopped)
		a.Conn.Abort()
		u.await(a.Exchange.Deadline)
	}
	if !u.over(0) || !k.whole {
		return false
	}
	a.Request.Bytes, a.Request.Whole = k.bytes, true
	return true
}

// await waits for the upload's end, or until more has come than is kept, at most until a time; zero: for as long as the
// client may take.
func (u *upload) await(until time.Time) {
	var late <-chan time.Time
	if !until.IsZero() {
		timer := time.NewTimer(time.Until(until))
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-u.done:
	case <-u.kept.full:
	case <-late:
	}
}

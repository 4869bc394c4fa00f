package basicauth

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"runtime"
	"sync/atomic"
	"time"
)

// key is what a verified password is found by: a hash of what the client sends that is keyed by secret bytes of this
// process, so that memory has neither passwords nor hashes that could be tried elsewhere.
type key [sha256.Size]byte

const (
	// sets and ways are how many passwords are kept: those that fall into one set take each other's places.
	sets = 4096
	ways = 8
)

// verified are passwords that were verified lately. It is safe for concurrent use, and takes no lock: what is lost in a
// race is verified once more.
type verified struct {
	secret  [sha256.Size]byte
	entries [sets][ways]atomic.Pointer[entry]
	turn    atomic.Uint32
}

// entry is one of them. It is immutable.
type entry struct {
	key   key
	hash  string // that it was verified by: another one is of another password
	until time.Time
}

func newVerified() (*verified, error) {
	v := &verified{}
	_, _ = rand.Read(v.secret[:]) // it never fails
	return v, nil
}

// Close implements io.Closer.
func (v *verified) Close() error {
	for i := range v.entries {
		for j := range v.entries[i] {
			v.entries[i][j].Store(nil)
		}
	}
	return nil
}

// key does not allocate.
func (v *verified) key(sent string) key {
	var text [sha256.Size + (maxPairBytes+2)/3*4]byte
	n := copy(text[:], v.secret[:])
	n += copy(text[n:], sent)
	return sha256.Sum256(text[:n])
}

func (v *verified) set(k key) *[ways]atomic.Pointer[entry] {
	return &v.entries[binary.LittleEndian.Uint32(k[:])%sets]
}

// has reports whether a password was verified by a hash, and counts still.
func (v *verified) has(k key, hash string, now time.Time) bool {
	set := v.set(k)
	for i := range set {
		if e := set[i].Load(); e != nil && e.key == k {
			return e.hash == hash && now.Before(e.until)
		}
	}
	return false
}

// put keeps one, in the place of what does not count any more or else of any.
func (v *verified) put(k key, hash string, until time.Time) {
	set := v.set(k)
	at := int(v.turn.Add(1) % ways)
	for i := range set {
		e := set[i].Load()
		if e != nil && e.key == k {
			at = i
			break
		}
		if e == nil {
			at = i
		}
	}
	set[at].Store(&entry{k, hash, until})
}

// maxWaiting is how many passwords may wait for a turn on a node.
const maxWaiting = 256

// errCrowded is that more are waiting.
var errCrowded = errors.New("too many passwords wait to be verified")

// turns bound how many passwords are verified at once on a node: half of the processors, so that a flood of wrong ones
// leaves the rest to those who need none.
type turns struct {
	running chan struct{}
	waiting *atomic.Int32
}

func newTurns() (turns, error) {
	return turns{make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2)), &atomic.Int32{}}, nil
}

// Close implements io.Closer.
func (turns) Close() error { return nil }

// take waits for a turn.
func (t turns) take(ctx context.Context) error {
	select {
	case t.running <- struct{}{}:
		return nil
	default:
	}
	if t.waiting.Add(1) > maxWaiting {
		t.waiting.Add(-1)
		return errCrowded
	}
	defer t.waiting.Add(-1)
	select {
	case t.running <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t turns) leave() { <-t.running }

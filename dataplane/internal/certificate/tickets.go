package certificate

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"time"
)

// TicketPeriod is how long new session tickets are made with one key. A ticket is taken during the next period too.
const TicketPeriod = 12 * time.Hour

// MinTicketSecret is the shortest secret that tickets may be derived from, in bytes.
const MinTicketSecret = 32

// Tickets makes session tickets with keys that follow from a secret and the time: nodes that share the secret take each
// other's tickets without ever talking, and keys change by themselves. Who has the secret can read what was recorded of
// resumed TLS 1.2 sessions, so it should be replaced now and then; nodes take sessions up anew then.
type Tickets struct {
	secret []byte
	keys   tls.Config // holds the keys in force
}

// NewTickets returns tickets of a secret; an empty one stands for a random secret of this process.
func NewTickets(secret []byte) *Tickets {
	t := &Tickets{secret: bytes.Clone(secret)}
	if len(secret) == 0 {
		t.secret = make([]byte, MinTicketSecret)
		_, _ = rand.Read(t.secret) // never fails
	}
	t.rotate(time.Now())
	return t
}

// Secret returns the secret, for a process that replaces this one.
func (t *Tickets) Secret() []byte { return bytes.Clone(t.secret) }

// Run changes keys when their time has come, until ctx ends.
func (t *Tickets) Run(ctx context.Context) {
	for {
		now := time.Now()
		t.rotate(now)
		next := time.NewTimer(now.Truncate(TicketPeriod).Add(TicketPeriod).Sub(now))
		select {
		case <-ctx.Done():
			next.Stop()
			return
		case <-next.C:
		}
	}
}

// rotate makes the key of the time the one for new tickets. Those of the periods before and after are taken too: other
// nodes' clocks may differ.
func (t *Tickets) rotate(now time.Time) {
	n := now.Unix() / int64(TicketPeriod/time.Second)
	t.keys.SetSessionTicketKeys([][32]byte{t.key(n), t.key(n - 1), t.key(n + 1)})
}

func (t *Tickets) key(period int64) [32]byte {
	mac := hmac.New(sha256.New, t.secret)
	mac.Write([]byte("session ticket"))
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(period)))
	return [32]byte(mac.Sum(nil))
}

// bind makes sessions of a configuration resumable where the same policy is in force, and nowhere else: who proved
// something to one host has not proved it to another.
func (t *Tickets) bind(c *tls.Config, p Policy) {
	mark := append([]byte("policy "), p.ID[:]...)
	c.WrapSession = func(cs tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		session.Extra = append(session.Extra, mark)
		return t.keys.EncryptTicket(cs, session)
	}
	c.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		session, err := t.keys.DecryptTicket(ticket, cs)
		if err != nil || session == nil {
			return nil, nil //nolint:nilerr,nilnil // a ticket that can't be read is none: the handshake is done in full
		}
		for i, extra := range session.Extra {
			if bytes.Equal(extra, mark) {
				session.Extra = append(session.Extra[:i:i], session.Extra[i+1:]...)
				return session, nil
			}
		}
		return nil, nil //nolint:nilnil // as above
	}
}

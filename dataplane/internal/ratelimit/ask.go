package ratelimit

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"net/netip"
	"time"

	"gateway.internal/dataplane/internal/ratelimit/remote"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/ratelimit"
)

const (
	// absentText stands for a part of a key that requests do not have.
	absentText = "-"
	// answerWait is how long a question of an operator waits for Redis.
	answerWait = time.Second
	// maxAnswers is how many answers wait for a report.
	maxAnswers = 1000
)

// Direct answers a question about a limit: the answer is among the next Answers.
func (n *Node) Direct(d *streamv1.LimitDirective) {
	a := &streamv1.LimitStatus{Question: d.GetQuestion()}
	left, wait, err := n.ask(d)
	if err != nil {
		a.Error = err.Error()
	} else {
		a.Left, a.ResetMicros = uint64(max(left, 0)), uint64(max(wait, 0)/int64(time.Microsecond))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if len(n.answers) < maxAnswers {
		n.answers = append(n.answers, a)
	}
}

// Answers returns the answers that have not been returned yet.
func (n *Node) Answers() []*streamv1.LimitStatus {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := n.answers
	n.answers = nil
	return list
}

// find returns the newest limit of a name.
func (n *Node) find(of Owner, name string) *Limit {
	var newest *Limit
	for _, st := range n.all() {
		if st.key.owner != of || st.key.limit != name {
			continue
		}
		st.mu.Lock()
		if newest == nil || st.limit.made.After(newest.made) {
			newest = st.limit
		}
		st.mu.Unlock()
	}
	return newest
}

func (n *Node) ask(d *streamv1.LimitDirective) (left, wait int64, err error) {
	l := n.find(Owner{Policy: d.GetPolicy(), Middleware: d.GetMiddleware()}, d.GetLimit())
	if l == nil {
		return 0, 0, fmt.Errorf("no route of the node has this limit")
	}
	key, err := l.keyOfTexts(d.GetKey())
	if err != nil {
		return 0, 0, err
	}
	tag, now := tagOf(maphash.Bytes(n.seed, key)), time.Now()
	if l.Redis {
		return l.askRedis(tag, l.redisKey(key), d.GetReset_(), now)
	}
	if d.GetReset_() {
		l.forget(l.table, tag)
	}
	at := l.moment(now)
	said := l.meter.look(l.table.load(tag), &at)
	return said.left, said.wait, nil
}

func (l *Limit) askRedis(tag uint64, name string, reset bool, now time.Time) (left, wait int64, err error) {
	if l.node.remote == nil {
		return 0, 0, errNoRedis
	}
	if reset {
		ctx, cancel := context.WithTimeout(context.Background(), answerWait)
		defer cancel()
		if err := l.node.remote.Forget(ctx, name); err != nil {
			return 0, 0, fmt.Errorf("redis did not forget the key")
		}
		l.forget(l.table, tag)
		l.forget(l.leases, tag)
	}
	answers, err := l.node.remote.Ask(answerWait, []remote.Question{l.question(name, 0, remote.Look, now)})
	if err != nil {
		return 0, 0, fmt.Errorf("redis did not answer")
	}
	at := l.node.leaseMoment(now)
	has := leaseOf(l.leases.load(tag), at.at)
	return answers[0].Left + has.left, int64(answers[0].Wait), nil
}

// forget makes a key as if nothing were known of it, but for what is under way.
func (l *Limit) forget(t *table, tag uint64) {
	if l.Algorithm == ratelimit.Concurrency {
		return
	}
	for {
		g := t.shard(tag).segment.Load()
		if g == nil {
			return
		}
		s := g.find(tag)
		if s == nil {
			return
		}
		state := s.state.Load()
		if state&frozen != 0 {
			t.await(tag)
			continue
		}
		if s.tag.Load() == tag && s.state.CompareAndSwap(state, 0) {
			return
		}
	}
}

// keyOfTexts returns the key whose parts an operator has said.
func (l *Limit) keyOfTexts(texts []string) (b []byte, err error) {
	if len(texts) != len(l.Key) {
		return nil, fmt.Errorf("the limit's key has %d parts, not %d", len(l.Key), len(texts))
	}
	for i, text := range texts {
		p := &l.Key[i]
		switch {
		case text == absentText:
			b = append(b, absent)
		case p.Kind == ratelimit.ClientIP:
			a, err := netip.ParseAddr(text)
			if err != nil {
				return nil, fmt.Errorf("%q is no address", text)
			}
			b = appendAddress(b, a.WithZone(""), p)
		case p.Kind == ratelimit.Claim:
			b = appendClaim(b, claimOf(text))
		default:
			b = appendPart(b, text)
		}
	}
	return b, nil
}

// claimOf reads a claim as an operator writes it. Numbers and texts are the same in keys.
func claimOf(text string) any {
	var list []any
	if json.Unmarshal([]byte(text), &list) == nil {
		return list
	}
	return text
}

// Package chunk distributes what is too large for one message over several, and puts them together again. It does not
// know what the messages carry.
package chunk

import (
	"fmt"
	"iter"
)

// Filler says which things go to one message of up to Limit bytes. A thing that is larger has one to itself.
type Filler struct {
	// Limit is the most bytes of things in one message.
	Limit int

	size int
}

// Begins adds a thing of n bytes, and reports whether a message begins with it in the place of another one.
func (f *Filler) Begins(n int) bool {
	begins := f.size > 0 && f.size+n > f.Limit
	if begins {
		f.size = 0
	}
	f.size += n
	return begins
}

// Add adds n bytes to the message that has begun.
func (f *Filler) Add(n int) { f.size += n }

// Splitter distributes things over messages.
type Splitter[M any] struct {
	// Fresh makes a message without things.
	Fresh func() M
	// Filler says what goes to one message.
	Filler

	all []M
}

// Room returns the message that a thing of n bytes goes to, and whether it has just begun in the place of another one.
func (s *Splitter[M]) Room(n int) (m M, begun bool) {
	if begun = s.Begins(n); begun || len(s.all) == 0 {
		s.all = append(s.all, s.Fresh())
	}
	return s.all[len(s.all)-1], begun
}

// Messages returns the messages, one at least, and has number tell each which one it is.
func (s *Splitter[M]) Messages(number func(m M, chunk, chunks uint32)) []M {
	if len(s.all) == 0 {
		s.all = append(s.all, s.Fresh())
	}
	for i, m := range s.all {
		number(m, uint32(i+1), uint32(len(s.all)))
	}
	return s.all
}

// Runs yields the things of each message, one message at least, and says how many there will be. It is for things that
// are too many to be in messages all at once: it goes through them twice, so they have to come in the same order again.
func Runs[T any](things iter.Seq[T], limit int, size func(T) int) (n uint32, runs iter.Seq[[]T]) {
	n = 1
	counts := Filler{Limit: limit}
	for thing := range things {
		if counts.Begins(size(thing)) {
			n++
		}
	}
	return n, func(yield func([]T) bool) {
		var run []T
		fills := Filler{Limit: limit}
		for thing := range things {
			if fills.Begins(size(thing)) {
				if !yield(run) {
					return
				}
				run = nil
			}
			run = append(run, thing)
		}
		yield(run)
	}
}

// Message is one of the messages, which say which one of how many they are, from 1.
type Message interface {
	GetChunk() uint32
	GetChunks() uint32
}

// Sequence sees to it that messages follow each other. The zero value expects a first one.
type Sequence struct {
	of            string // of what the last message was; "": it was complete
	chunk, chunks uint32
}

// Add takes the next message. of tells what it is a part of from all else, such as "revision 7 from 3". A first one
// begins anew, whatever came before; last says that it is the last one. Messages that do not follow each other are an
// error: what they are part of can't be made whole.
func (s *Sequence) Add(of string, m Message) (first, last bool, err error) {
	first = m.GetChunk() <= 1
	switch {
	case first:
	case s.of == "":
		return false, false, fmt.Errorf("%s began with chunk %d of %d", of, m.GetChunk(), m.GetChunks())
	case of != s.of || m.GetChunk() != s.chunk+1 || m.GetChunks() != s.chunks:
		return false, false, fmt.Errorf("chunk %d of %d of %s came after chunk %d of %d of %s", m.GetChunk(), m.GetChunks(),
			of, s.chunk, s.chunks, s.of)
	}
	if last = m.GetChunk() >= m.GetChunks(); last {
		of = ""
	}
	s.of, s.chunk, s.chunks = of, m.GetChunk(), m.GetChunks()
	return first, last, nil
}

// Gather puts messages together. The zero value has none.
type Gather[M Message] struct {
	sequence Sequence
	whole    M
}

// Add takes the next message, as Sequence does, and returns the whole when it is complete. join adds what a part
// carries.
func (g *Gather[M]) Add(of string, m M, join func(whole, part M)) (whole M, complete bool, err error) {
	var none M
	first, last, err := g.sequence.Add(of, m)
	switch {
	case err != nil:
		return none, false, err
	case first:
		g.whole = m
	default:
		join(g.whole, m)
	}
	if !last {
		return none, false, nil
	}
	whole, g.whole = g.whole, none
	return whole, true, nil
}

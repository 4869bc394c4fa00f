// Package chunk distributes what is too large for one message over several, and puts them together again. It does not
// know what the messages carry.
package chunk

import "fmt"

// Message is one of the messages, which say which one of how many they are, from 1.
type Message interface {
	GetChunk() uint32
	GetChunks() uint32
}

// Splitter distributes things over messages of up to Limit bytes. A thing that is larger has one to itself.
type Splitter[M any] struct {
	// Fresh makes a message without things.
	Fresh func() M
	// Limit is the most bytes of things in one message.
	Limit int

	all  []M
	size int
}

// Room returns the message that a thing of n bytes goes to, and whether it has just begun in the place of another one.
func (s *Splitter[M]) Room(n int) (m M, begun bool) {
	if len(s.all) == 0 {
		s.all = append(s.all, s.Fresh())
	}
	if s.size > 0 && s.size+n > s.Limit {
		s.all = append(s.all, s.Fresh())
		s.size, begun = 0, true
	}
	s.size += n
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

// Sequence sees to it that messages follow each other. The zero value expects a first one.
type Sequence[M Message] struct {
	// Same reports whether two messages are of the same update.
	Same func(a, b M) bool
	// Name says what a message is of, such as "revision 7".
	Name func(m M) string

	last  M
	begun bool
}

// Add takes the next message. A first one begins an update anew, whatever came before. last says that it is the last
// one. Messages that do not follow each other are an error: what they are part of can't be made whole.
func (s *Sequence[M]) Add(m M) (first, last bool, err error) {
	first = m.GetChunk() <= 1
	switch {
	case first:
	case !s.begun:
		return false, false, fmt.Errorf("%s began with chunk %d of %d", s.Name(m), m.GetChunk(), m.GetChunks())
	case !s.Same(s.last, m) || m.GetChunk() != s.last.GetChunk()+1 || m.GetChunks() != s.last.GetChunks():
		return false, false, fmt.Errorf("chunk %d of %d of %s came after chunk %d of %d of %s", m.GetChunk(), m.GetChunks(),
			s.Name(m), s.last.GetChunk(), s.last.GetChunks(), s.Name(s.last))
	}
	last = m.GetChunk() >= m.GetChunks()
	s.last, s.begun = m, !last
	if last {
		var none M
		s.last = none // which may be large
	}
	return first, last, nil
}

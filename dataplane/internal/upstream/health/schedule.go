package health

import (
	"container/heap"
	"time"
)

// schedule orders watches by when they are due. It implements heap.Interface.
type schedule []*watch

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].index, s[j].index = i, j
}

// Push implements heap.Interface.
func (s *schedule) Push(x any) {
	w := x.(*watch)
	w.index = len(*s)
	*s = append(*s, w)
}

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	last := len(*s) - 1
	w := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	w.index = -1
	return w
}

// add makes a watch due at a time.
func (s *schedule) add(w *watch, at time.Time) {
	w.at = at
	heap.Push(s, w)
}

// remove takes a watch out, if it is in.
func (s *schedule) remove(w *watch) {
	if w.index >= 0 {
		heap.Remove(s, w.index)
	}
}

// due takes out a watch whose time has come. Without one it returns how long the first has to wait, a long time when
// there is none.
func (s *schedule) due(now time.Time) (*watch, time.Duration) {
	if len(*s) == 0 {
		return nil, time.Hour
	}
	if wait := (*s)[0].at.Sub(now); wait > 0 {
		return nil, wait
	}
	return heap.Pop(s).(*watch), 0
}

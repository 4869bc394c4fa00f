package upstream

import (
	"slices"

	"gateway.internal/dataplane/internal/socket"
)

// idle are the connections over HTTP/1 to an endpoint that carry nothing: those that are in no loop first, then those
// of each loop, by its number. Each list has the one that was used last at its end. The endpoint's mutex protects them.
type idle [][]*http1Conn

// listOf returns the number of a loop's list; nil: those that are in none.
func listOf(loop *socket.Loop) int {
	if loop == nil {
		return 0
	}
	return 1 + loop.Number()
}

func (i *idle) push(c *http1Conn) {
	list := listOf(c.Loop())
	for len(*i) <= list {
		*i = append(*i, nil)
	}
	(*i)[list] = append((*i)[list], c)
}

// pop takes the connection out that was used last, if possible of those that are where it is going to be used: moving
// one costs as much as a tenth of a request. nil: there is none.
func (i idle) pop(loop *socket.Loop) *http1Conn {
	if list := listOf(loop); list < len(i) && len(i[list]) > 0 {
		return i.last(list)
	}
	for list := range i {
		if len(i[list]) > 0 {
			return i.last(list)
		}
	}
	return nil
}

func (i idle) last(list int) *http1Conn {
	at := len(i[list]) - 1
	c := i[list][at]
	i[list][at] = nil
	i[list] = i[list][:at]
	return c
}

// oldest takes the connection out that has carried nothing for the longest time. nil: there is none.
func (i idle) oldest() *http1Conn {
	found := -1
	for list := range i {
		if len(i[list]) > 0 && (found < 0 || i[list][0].idleSince.Before(i[found][0].idleSince)) {
			found = list
		}
	}
	if found < 0 {
		return nil
	}
	c := i[found][0]
	i[found] = slices.Delete(i[found], 0, 1)
	return c
}

func (i idle) len() int {
	n := 0
	for _, list := range i {
		n += len(list)
	}
	return n
}

func (i idle) all() []*http1Conn { return slices.Concat(i...) }

// drop takes those out that which picks, and returns them.
func (i idle) drop(which func(*http1Conn) bool) (dropped []*http1Conn) {
	for list := range i {
		i[list] = slices.DeleteFunc(i[list], func(c *http1Conn) bool {
			if !which(c) {
				return false
			}
			dropped = append(dropped, c)
			return true
		})
	}
	return dropped
}

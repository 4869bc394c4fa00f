package tokencache

import (
	"fmt"
	"strings"
	"testing"
)

// TestBounds holds what was put last or is used, within its bytes, and a token's own text.
func TestBounds(t *testing.T) {
	c := New[int](64 << 10)
	defer c.Close()
	for i := range 10_000 {
		c.Put(fmt.Sprintf("token %d", i), i, 1000)
	}
	c.entries.CleanUp()
	if got := c.entries.WeightedSize(); got > 64<<10 || c.Len() == 0 {
		t.Errorf("%d bytes, %d entries", got, c.Len())
	}
	text := []byte("abc")
	c.Put(string(text), 7, 10)
	if v, found := c.Get("abc"); !found || v != 7 {
		t.Errorf("%d, %t", v, found)
	}
	if c.Drop("abc"); c.Len() < 0 {
		t.Error("negative")
	}
	if _, found := c.Get("abc"); found {
		t.Error("a token that was dropped is there")
	}
}

func TestGetDoesNotAllocate(t *testing.T) {
	c := New[*int](0)
	defer c.Close()
	token := strings.Repeat("a", 800)
	c.Put(token, new(int), 1000)
	if n := testing.AllocsPerRun(1000, func() {
		if _, found := c.Get(token); !found {
			t.Error("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

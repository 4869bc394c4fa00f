package fleet

import (
	"errors"
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// TestNodesAreBounded: a node that has gone makes room for a new one, a connected one does not.
func TestNodesAreBounded(t *testing.T) {
	f := New(prometheus.NewRegistry())
	connect := func(id string) (*Session, error) {
		return f.Connect(&streamv1.Hello{NodeId: id, InstanceId: "1"}, "127.0.0.1:1")
	}
	last, err := connect("first")
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	for i := range maxNodes - 1 {
		f.nodes[fmt.Sprint("n", i)] = f.nodes["first"]
	}
	f.mu.Unlock()
	if _, err := connect("more"); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v", err)
	}
	last.Close()
	if _, err := connect("more"); err != nil {
		t.Errorf("in the place of one that has gone: %v", err)
	}
	if n := len(f.Nodes()); n != maxNodes {
		t.Errorf("%d nodes", n)
	}
}

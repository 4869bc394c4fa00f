package stream

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/waittest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestFullThenDeltas(t *testing.T) {
	p := newPlane(t)
	var edits []config.Edit
	for i := range 2000 {
		edit := route(fmt.Sprint("r", i))
		edit.Put.(*configv1.Route).DirectResponse.Body = strings.Repeat("x", 1000)
		edits = append(edits, edit)
	}
	v := p.commit(edits...)
	n := &node{t: t, id: "n1"}
	n.connect(p, token)
	defer n.close()
	n.follow(v.Revision)
	if n.messages < 2 || n.full != 1 {
		t.Errorf("%d messages, %d full snapshots", n.messages, n.full)
	}
	n.messages = 0
	v = p.commit(route("one-more"), config.Edit{Kind: config.Route, Delete: "r0"})
	n.follow(v.Revision)
	if n.messages != 1 || n.full != 1 || n.config.Hash() != v.Config.Hash() {
		t.Errorf("a small change took %d messages, %d full snapshots", n.messages, n.full)
	}
	waittest.UntilNil(t, "the fleet's view", func() error {
		if nodes := p.fleet.Nodes(); len(nodes) != 1 || nodes[0].GetRevision() != v.Revision || !nodes[0].GetConnected() {
			return fmt.Errorf("%v", nodes)
		}
		return nil
	})
}

func TestResume(t *testing.T) {
	p := newPlane(t)
	v := p.commit(route("a"))
	n := &node{t: t, id: "n1"}
	n.connect(p, token)
	n.follow(v.Revision)
	n.close()
	v = p.commit(route("b"))
	n.connect(p, token)
	defer n.close()
	n.follow(v.Revision)
	if n.full != 1 {
		t.Errorf("%d full snapshots", n.full)
	}
}

func TestSlowNodeSkips(t *testing.T) {
	p := newPlane(t)
	n := &node{t: t, id: "n1"}
	v := p.commit(route("first"))
	n.connect(p, token)
	defer n.close()
	u := n.receive()
	for i := range 50 {
		v = p.commit(route(fmt.Sprint("r", i)))
	}
	n.messages = 0
	n.answer(u, streamv1.Result_OUTCOME_APPLIED)
	n.follow(v.Revision)
	if n.messages > 2 {
		t.Errorf("%d messages for 50 revisions", n.messages)
	}
}

func TestRefusals(t *testing.T) {
	p := newPlane(t)
	wrong := &node{t: t, id: "n1"}
	wrong.connect(p, "wrong")
	defer wrong.close()
	if _, err := wrong.stream.Recv(); status.Code(err) != codes.Unauthenticated {
		t.Errorf("a wrong token: %v", err)
	}
	p.commit(route("a"))
	first := &node{t: t, id: "n1"}
	first.connect(p, token)
	defer first.close()
	first.receive()
	second := &node{t: t, id: "n1"}
	second.connect(p, token)
	defer second.close()
	if _, err := second.stream.Recv(); status.Code(err) != codes.AlreadyExists {
		t.Errorf("the same id twice: %v", err)
	}
	if c := p.fleet.Nodes()[0].GetConflict(); c == nil || time.Since(c.GetAt().AsTime()) > time.Minute {
		t.Error("the conflict is not shown")
	}
	nobody := &node{t: t}
	nobody.connect(p, token)
	defer nobody.close()
	if _, err := nobody.stream.Recv(); status.Code(err) != codes.InvalidArgument {
		t.Errorf("no id: %v", err)
	}
}

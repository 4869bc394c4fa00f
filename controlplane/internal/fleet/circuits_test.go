package fleet

import (
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// TestNodeMissesAReset has a circuit reset while a node that has it forced open is away: it is told when it is back.
// One that somebody has forced open since, through another control plane, stays as it is, and so does one that was
// never reset.
func TestNodeMissesAReset(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(prometheus.NewRegistry())
		connect := func() *Session {
			t.Helper()
			s, err := f.Connect(&streamv1.Hello{NodeId: "a", InstanceId: "1"}, "127.0.0.1:1")
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		// told returns what a node is told that says how a circuit is.
		told := func(s *Session, state streamv1.CircuitStatus_State, since time.Time) (actions string) {
			t.Helper()
			s.Directives()
			s.Report(&streamv1.Report{Circuits: []*streamv1.CircuitStatus{
				{ServiceId: "s", State: state, Since: timestamppb.New(since)},
			}})
			for _, d := range s.Directives() {
				actions += d.GetCircuit().GetAction().String() + " " + d.GetCircuit().GetServiceId()
			}
			return actions
		}
		const forced, reset = streamv1.CircuitStatus_STATE_FORCED_OPEN, "ACTION_RESET s"
		s := connect()
		f.ForceOpen("s", Forced{})
		since := time.Now()
		if got := told(s, forced, since); got != "" {
			t.Errorf("forced open, as it shall be: %q", got)
		}
		s.Close()
		time.Sleep(time.Minute)
		f.ResetCircuit("s")
		s = connect()
		if got := told(s, forced, since); got != reset {
			t.Errorf("forced open since before the reset: %q, want %q", got, reset)
		}
		if got := told(s, streamv1.CircuitStatus_STATE_OPEN, since); got != "" {
			t.Errorf("open by itself: %q", got)
		}
		time.Sleep(time.Minute)
		if got := told(s, forced, time.Now()); got != "" {
			t.Errorf("forced open since: %q", got)
		}
		f.ForceOpen("s", Forced{})
		if got := told(s, forced, since); got != "" {
			t.Errorf("forced open again: %q", got)
		}
		delete(f.resets, "s") // as in a control plane that has begun later
		delete(f.forced, "s")
		if got := told(s, forced, since); got != "" {
			t.Errorf("never reset: %q", got)
		}
		for i := range MaxForced {
			f.resets[strconv.Itoa(i)] = time.Now().Add(time.Duration(i))
		}
		f.ResetCircuit("s")
		if _, is := f.resets["0"]; is || len(f.resets) != MaxForced {
			t.Errorf("%d resets are remembered, and the oldest is: %t", len(f.resets), is)
		}
		time.Sleep(remembered + time.Second)
		f.ResetCircuit("another")
		if n := len(f.resets); n != 1 {
			t.Errorf("%d resets are remembered after a day", n)
		}
	})
}

// TestForcedCircuitsAreBounded: one more is refused until another one is reset or over.
func TestForcedCircuitsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(prometheus.NewRegistry())
		forced := Forced{Until: time.Now().Add(time.Minute)}
		for i := range MaxForced - 1 {
			f.forced[strconv.Itoa(i)] = forced
		}
		if _, ok := f.ForceOpen("last", forced); !ok {
			t.Error("the last one is refused")
		}
		if _, ok := f.ForceOpen("more", Forced{}); ok {
			t.Error("one more is not refused")
		}
		if _, ok := f.ForceOpen("0", forced); !ok {
			t.Error("one of them is refused")
		}
		f.ResetCircuit("0")
		if _, ok := f.ForceOpen("more", forced); !ok {
			t.Error("another one is refused when one was reset")
		}
		time.Sleep(time.Minute)
		if _, ok := f.ForceOpen("later", Forced{}); !ok || len(f.forced) != 1 {
			t.Errorf("%d are known when their time is over", len(f.forced))
		}
	})
}

// TestDirectivesDoNotPileUp: a node that takes nothing is told how things are to be, and not how they came to be so.
func TestDirectivesDoNotPileUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := New(prometheus.NewRegistry())
		slow := join(t, f, "slow")
		for i := range 100 {
			f.ForceOpen("a", Forced{})
			f.ResetCircuit("a")
			f.ForceOpen("b", Forced{})
			other := join(t, f, strconv.Itoa(i))
			time.Sleep(tellInterval)
			other.says(strconv.Itoa(i), "refused")
			other.says(strconv.Itoa(i), "")
			time.Sleep(2 * lookInterval)
		}
		synctest.Wait()
		list := slow.Directives()
		last := map[string]string{}
		for _, d := range list {
			if c := d.GetCircuit(); c != nil {
				last[c.GetServiceId()] += c.GetAction().String()
			}
		}
		if last["a"] != "ACTION_RESET" || last["b"] != "ACTION_FORCE_OPEN" || len(list) > 2+1+maxSeen/maxLooks {
			t.Errorf("%d wait, of them %v", len(list), last)
		}
		if slow.HasDirectives() || len(slow.Directives()) > 0 {
			t.Error("what was sent still waits")
		}
	})
}

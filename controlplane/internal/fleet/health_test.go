package fleet

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// TestHealthOfWhatIsGone: the verdict on an endpoint that is gone does not count, whether its node says that it is
// gone or not, and is forgotten where it does.
func TestHealthOfWhatIsGone(t *testing.T) {
	f := New(prometheus.NewRegistry())
	session, err := f.Connect(&streamv1.Hello{NodeId: "n", InstanceId: "i"}, "")
	if err != nil {
		t.Fatal(err)
	}
	verdict := func(host string, healthy bool, second int64) *streamv1.EndpointHealth {
		at := &timestamppb.Timestamp{Seconds: second}
		return &streamv1.EndpointHealth{ServiceId: "s", Host: host, Port: 80, Healthy: healthy, CheckedAt: at}
	}
	at := func(hosts ...string) (list []*configv1.Endpoint) {
		for _, h := range hosts {
			list = append(list, &configv1.Endpoint{Host: h, Port: 80})
		}
		return list
	}
	session.Report(&streamv1.Report{Endpoints: []*streamv1.EndpointHealth{verdict("old", true, 9), verdict("dead", false, 5)}})
	check := func(what string, healthy, known bool, endpoints ...[]*configv1.Endpoint) {
		t.Helper()
		h := f.Health("s", endpoints...)
		if is, isKnown := h.Healthy(); is != healthy || isKnown != known {
			t.Errorf("%s: healthy %v, known %v", what, is, isKnown)
		}
		if known && !healthy && h.LastCheck.GetSeconds() != 5 {
			t.Errorf("%s: the last check was at %v", what, h.LastCheck)
		}
	}
	check("all", true, true, at("old"), at("dead"))
	check("one is gone", false, true, at("dead", "new"))
	check("nobody has checked it", false, false, at("new"))
	session.Report(&streamv1.Report{Unchecked: []*streamv1.UncheckedEndpoint{
		{ServiceId: "s", Host: "old", Port: 80}, {ServiceId: "other", Host: "x"},
	}})
	check("its check is gone", false, false, at("old"))
	session.Report(&streamv1.Report{Unchecked: []*streamv1.UncheckedEndpoint{{ServiceId: "s", Host: "dead", Port: 80}}})
	if n := len(f.nodes["n"].endpoints); n != 0 {
		t.Errorf("%d services are remembered", n)
	}
}

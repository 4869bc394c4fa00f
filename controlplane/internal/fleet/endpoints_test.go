package fleet

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// What a node has told of an endpoint is known until it says that the endpoint is gone, or goes itself.
func TestUsesOfWhatIsGone(t *testing.T) {
	f := New(prometheus.NewRegistry())
	session, err := f.Connect(&streamv1.Hello{NodeId: "n", InstanceId: "i"}, "")
	if err != nil {
		t.Fatal(err)
	}
	tell := func(u *streamv1.EndpointUse) {
		u.ServiceId, u.Host, u.Port = "s", "h", 80
		session.Report(&streamv1.Report{Uses: []*streamv1.EndpointUse{u}})
	}
	if list := f.Endpoint("s", "h:80"); len(list) != 0 {
		t.Errorf("before anything was told: %v", list)
	}
	tell(&streamv1.EndpointUse{InFlight: 3})
	if list := f.Endpoint("s", "h:80"); len(list) != 1 || list[0].GetInFlight() != 3 || list[0].Healthy != nil {
		t.Errorf("%v", list)
	}
	tell(&streamv1.EndpointUse{Gone: true})
	if list := f.Endpoint("s", "h:80"); len(list) != 0 || len(f.nodes["n"].uses) != 0 {
		t.Errorf("after it was gone: %v, and %v", list, f.nodes["n"].uses)
	}
	tell(&streamv1.EndpointUse{InFlight: 1})
	session.Close()
	if list := f.Endpoint("s", "h:80"); len(list) != 0 {
		t.Errorf("after the node went: %v", list)
	}
}

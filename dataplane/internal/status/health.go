package status

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	grpcstatus "google.golang.org/grpc/status"
)

// Health is grpc.health.v1.Health of the node as a whole, whose service is "": SERVING while it is ready. It is safe
// for concurrent use.
type Health struct {
	healthv1.UnimplementedHealthServer
	ready func() bool
	ended chan struct{}

	mu      sync.Mutex
	changed chan struct{} // closed, and made anew, by Changed
}

// NewHealth returns the health of a node that is ready when ready says so.
func NewHealth(ready func() bool) *Health {
	return &Health{ready: ready, ended: make(chan struct{}), changed: make(chan struct{})}
}

// Changed makes watchers look at once. Without it they look every second.
func (h *Health) Changed() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.changed)
	h.changed = make(chan struct{})
}

// End ends all watches once they have told the last state. It is called once.
func (h *Health) End() { close(h.ended) }

func (h *Health) change() <-chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.changed
}

func (h *Health) over() bool {
	select {
	case <-h.ended:
		return true
	default:
		return false
	}
}

func (h *Health) now() *healthv1.HealthCheckResponse {
	if h.ready() {
		return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_SERVING}
	}
	return &healthv1.HealthCheckResponse{Status: healthv1.HealthCheckResponse_NOT_SERVING}
}

// Check implements healthv1.HealthServer.
func (h *Health) Check(_ context.Context, r *healthv1.HealthCheckRequest) (*healthv1.HealthCheckResponse, error) {
	if r.GetService() != "" {
		return nil, grpcstatus.Error(codes.NotFound, "only the node as a whole has a health: the service has to be empty")
	}
	return h.now(), nil
}

// List implements healthv1.HealthServer.
func (h *Health) List(context.Context, *healthv1.HealthListRequest) (*healthv1.HealthListResponse, error) {
	return &healthv1.HealthListResponse{Statuses: map[string]*healthv1.HealthCheckResponse{"": h.now()}}, nil
}

// Watch implements healthv1.HealthServer.
func (h *Health) Watch(r *healthv1.HealthCheckRequest, to grpc.ServerStreamingServer[healthv1.HealthCheckResponse]) error {
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for last := healthv1.HealthCheckResponse_UNKNOWN; ; {
		changed, over := h.change(), h.over()
		now := h.now()
		if r.GetService() != "" {
			now.Status = healthv1.HealthCheckResponse_SERVICE_UNKNOWN
		}
		if now.GetStatus() != last {
			if err := to.Send(now); err != nil {
				return err
			}
			last = now.GetStatus()
		}
		if over {
			return grpcstatus.Error(codes.Unavailable, "the node has stopped")
		}
		select {
		case <-h.ended:
		case <-to.Context().Done():
			return to.Context().Err()
		case <-changed:
		case <-look.C:
		}
	}
}

// Beside serves gRPC's requests itself and hands others on. The server has to speak HTTP/2 without TLS.
func (h *Health) Beside(other http.Handler) http.Handler {
	server := grpc.NewServer()
	healthv1.RegisterHealthServer(server, h)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			other.ServeHTTP(w, r)
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{}) // whoever watches says nothing more
		server.ServeHTTP(w, r)
	})
}

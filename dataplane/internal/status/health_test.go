package status

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	grpcstatus "google.golang.org/grpc/status"

	"gateway.internal/shared/waittest"
)

func TestHealthOverADrain(t *testing.T) {
	var draining atomic.Bool
	h := NewHealth(func() bool { return !draining.Load() })
	s := httptest.NewUnstartedServer(h.Beside(http.NotFoundHandler()))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	cc, err := grpc.NewClient(s.Listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer cc.Close()
	ctx, cancel := context.WithTimeout(context.Background(), waittest.Limit)
	defer cancel()
	client := healthv1.NewHealthClient(cc)
	watch, err := client.Watch(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []healthv1.HealthCheckResponse_ServingStatus{healthv1.HealthCheckResponse_SERVING, healthv1.HealthCheckResponse_NOT_SERVING} {
		if got, err := watch.Recv(); got.GetStatus() != want {
			t.Fatalf("watched: %v, %v; want %v", got, err, want)
		}
		if got, err := client.Check(ctx, &healthv1.HealthCheckRequest{}); got.GetStatus() != want {
			t.Errorf("checked: %v, %v; want %v", got, err, want)
		}
		if all, err := client.List(ctx, &healthv1.HealthListRequest{}); all.GetStatuses()[""].GetStatus() != want {
			t.Errorf("listed: %v, %v; want %v", all, err, want)
		}
		draining.Store(true)
		h.Changed()
	}
	h.End()
	if got, err := watch.Recv(); grpcstatus.Code(err) != codes.Unavailable {
		t.Errorf("after the end: %v, %v", got, err)
	}
	if _, err := client.Check(ctx, &healthv1.HealthCheckRequest{Service: "x"}); grpcstatus.Code(err) != codes.NotFound {
		t.Errorf("another service: %v", err)
	}
	if res, err := http.Get(s.URL); err != nil || res.StatusCode != 404 {
		t.Errorf("HTTP/1.1: %v, %v", res, err)
	}
}

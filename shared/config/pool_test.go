package config

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func TestMaxPending(t *testing.T) {
	for _, c := range []struct {
		name  string
		pool  *configv1.ConnectionPool
		want  int
		valid bool
	}{
		{"no pool", nil, 128, true},
		{"absent", &configv1.ConnectionPool{MaxConnections: 1}, 128, true},
		{"none", &configv1.ConnectionPool{MaxPending: proto.Uint32(0)}, 0, true},
		{"the most", &configv1.ConnectionPool{MaxPending: proto.Uint32(65535)}, 65535, true},
		{"too many", &configv1.ConnectionPool{MaxPending: proto.Uint32(65536)}, 65536, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			service := &configv1.Service{Name: "s", ConnectionPool: c.pool}
			if got := ServiceSettingsOf(service).Pool.MaxPending; got != c.want {
				t.Errorf("%d may wait, not %d", got, c.want)
			}
			_, err := Empty().Plan([]Edit{put(service)}, options())
			var problems Problems
			errors.As(err, &problems)
			if c.valid && err != nil || !c.valid && (len(problems) != 1 || problems[0].Field != "connection_pool.max_pending") {
				t.Errorf("%v", err)
			}
		})
	}
}

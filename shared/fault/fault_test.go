package fault

import (
	"testing"

	"google.golang.org/grpc/codes"
)

func TestEveryCodeHasStatuses(t *testing.T) {
	for code, s := range statuses {
		if s.http < 400 || s.http > 599 || s.grpc == codes.OK {
			t.Errorf("%s: HTTP %d, gRPC %s: want an error in both", code, s.http, s.grpc)
		}
		if code.HTTP() != s.http || code.GRPC() != s.grpc {
			t.Errorf("%s: accessors differ from the table", code)
		}
	}
}

func TestUnknownCodeIsInternal(t *testing.T) {
	if c := Code("NOBODY_KNOWS"); c.HTTP() != 500 || c.GRPC() != codes.Internal {
		t.Errorf("got %d and %s", c.HTTP(), c.GRPC())
	}
}

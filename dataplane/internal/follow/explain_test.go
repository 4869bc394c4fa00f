package follow

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
)

func TestAdviceIsOfUse(t *testing.T) {
	for code, want := range map[codes.Code]string{
		codes.Unauthenticated:  "join-token create",
		codes.PermissionDenied: "nodes readmit", // of a revoked node, which a join token does not let in
		codes.AlreadyExists:    "--node-id",
		codes.InvalidArgument:  "versions",
		codes.Unavailable:      "",
	} {
		help, refused := advice(code)
		if refused != (want != "") || !strings.Contains(help, want) ||
			code == codes.PermissionDenied && strings.Contains(help, "TOKEN") {
			t.Errorf("%s: %q, refused %t; want %q", code, help, refused, want)
		}
	}
}

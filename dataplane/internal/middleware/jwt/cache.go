package jwt

import (
	"crypto/sha256"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/tokencache"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/jose"
)

// maxKept is how long a token is kept at most before it is verified again.
const maxKept = 10 * time.Minute

// verified is a token that is right for a while. It is immutable.
type verified struct {
	client *identity.Client
	key    *jose.Key
	until  time.Time // zero: for ever
}

type cache = tokencache.Cache[*verified]

// keptBy is what verified tokens are kept by: all that they depend on.
type keptBy struct {
	middleware string
	settings   [sha256.Size]byte
}

// keepVerified returns the tokens that the middleware has verified. They outlive changes of the configuration that
// leave its settings as they are.
func keepVerified(m *middlewarev1.Jwt, env *pipeline.Environment) (*live.Ref[*cache], error) {
	matter := proto.CloneOf(m)
	matter.Optional, matter.ExcludePaths, matter.RemoveToken, matter.MaxTokenBytes = false, nil, false, 0
	settings, err := proto.MarshalOptions{Deterministic: true}.Marshal(matter)
	if err != nil {
		return nil, fmt.Errorf("jwt: %w", err)
	}
	return live.Keep(env.Live, keptBy{env.Name, sha256.Sum256(settings)}, func() (*cache, error) {
		return tokencache.New[*verified](int(m.GetMaxCacheBytes())), nil
	})
}

// kept returns what is known of a token, as long as it counts and its key is its issuer's; nil: nothing.
func (s *step) kept(text string, now time.Time) *verified {
	v, found := s.verified.Value().Get(text)
	if !found {
		return nil
	}
	if v.key.Gone() || !now.Before(v.until) {
		s.verified.Value().Drop(text)
		return nil
	}
	return v
}

func (s *step) keep(text string, v *verified, now time.Time) {
	if most := now.Add(maxKept); v.until.IsZero() || v.until.After(most) {
		v.until = most
	}
	s.verified.Value().Put(text, v, 4*len(text)) // about what its claims take
}

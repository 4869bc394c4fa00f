package jose

// Reason is why a token is refused, for counters.
type Reason uint8

// The reasons.
const (
	// Malformed is what is no token, or one that readers might understand in different ways.
	Malformed Reason = iota
	// WrongAlgorithm is an alg that is not one of those that are allowed.
	WrongAlgorithm
	// WrongType is a typ of another kind of token.
	WrongType
	// WrongIssuer is an issuer that is not trusted.
	WrongIssuer
	// WrongAudience is a token for others.
	WrongAudience
	// Expired is one that counts no longer, NotYetValid one that does not yet, and NoExpiry one that would always.
	Expired
	NotYetValid
	NoExpiry
	// UnknownKey is a key that is not there, or that may not sign so.
	UnknownKey
	// WrongSignature is a signature that is not the key's.
	WrongSignature
	// Unproven is a token that is bound to a key which its client has not shown.
	Unproven

	reasons
)

var reasonNames = [reasons]string{
	"malformed", "algorithm", "type", "issuer", "audience", "expired", "not_yet_valid", "no_expiry", "unknown_key",
	"signature", "unproven",
}

// Reasons returns all reasons.
func Reasons() []Reason {
	all := make([]Reason, reasons)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}

// String returns the reason as a metric has it.
func (r Reason) String() string { return reasonNames[r] }

// Refusal is why a token is refused.
type Refusal struct {
	// Reason is why, for counters.
	Reason Reason
	// Message says it to the client, without anything of the token.
	Message string
}

// Error implements error.
func (r *Refusal) Error() string { return r.Message }

func refuse(why Reason, message string) *Refusal { return &Refusal{why, message} }

// The refusals that need no more words.
var (
	// TooLong is of a token that has more bytes than it may.
	TooLong = refuse(Malformed, "the token is too long")

	errAlgorithm = refuse(WrongAlgorithm, "the token's algorithm is not allowed")
	errType      = refuse(WrongType, "the token is of another type")
	errNoIssuer  = refuse(WrongIssuer, "the token names no issuer")
	// UntrustedIssuer is of a token whose issuer is none that is known.
	UntrustedIssuer = refuse(WrongIssuer, "the token's issuer is not trusted")
	errAudience     = refuse(WrongAudience, "the token is for another audience")
	errExpired      = refuse(Expired, "the token has expired")
	errNoExpiry     = refuse(NoExpiry, "the token has no exp")
	errTime         = refuse(Malformed, "the token's exp, nbf or iat is no time")
	errNotYet       = refuse(NotYetValid, "the token is not valid yet")
	errIssuedLater  = refuse(NotYetValid, "the token was issued in the future")
	errUnknownKey   = refuse(UnknownKey, "the token is signed by an unknown key")
	errManyKeys     = refuse(UnknownKey, "the token does not say which of many keys has signed it")
	errSignature    = refuse(WrongSignature, "the token's signature does not verify")
)

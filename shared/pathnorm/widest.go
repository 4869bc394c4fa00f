package pathnorm

// widest are the settings of Widest. What can't be normalised is kept, but for NUL, where some services take a path to
// end: nobody knows then which path is meant.
var widest = func() *Rules {
	r := compile(Settings{
		DotSegments: Normalise, EmptySegments: Normalise, EncodedSlash: Normalise, EncodedBackslash: Normalise,
		EncodedNUL: Refuse, EncodedControl: Keep, InvalidUTF8: Keep, Unescaped: Normalise, UnneededEscapes: Normalise,
		EscapeCase: Normalise, Parameters: Normalise,
	})
	r.opened = true
	return r
}()

// Widest returns rules that bring all spellings which some service reads as one path into that path: parameters are
// taken away, escaped slashes are slashes, dot segments are followed. An access rule holds for what a route has taken
// and for this, since the service may read either. They are shared, as Rules can be.
func Widest() *Rules { return widest }

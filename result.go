package caddyhtpasswd

// result is the result of a request, or of a check of credentials. Only with
// resultPassed and resultExempt does a request pass.
type result uint8

const (
	// resultUnchecked means that the credentials could not be checked, or not yet. It is
	// the zero value, so that nothing passes by mistake.
	resultUnchecked result = iota

	resultPassed
	resultExempt
	resultNoCredentials
	resultMalformed // credentials that cannot be decoded
	resultAmbiguous // more than one Authorization header
	resultWrongPassword
	resultUnknownUser // the user is in none of the files
	resultLockedUser
	resultInvalidLine  // the line of the user is invalid
	resultForbidden    // the user is not authorized
	resultNotEncrypted // over plain HTTP
	resultThrottled    // a rate limit is exceeded
	resultOverloaded   // no room in the hash queue
	resultClientClosed // the client closed the connection
	resultCount
)

// resultLabels are the values of the label "result" of the metric requests_total.
var resultLabels = [resultCount]string{
	resultUnchecked:     "error",
	resultPassed:        "ok",
	resultExempt:        "exempt",
	resultNoCredentials: "no_credentials",
	resultMalformed:     "malformed",
	resultAmbiguous:     "ambiguous",
	resultWrongPassword: "wrong_password",
	resultUnknownUser:   "unknown_user",
	resultLockedUser:    "locked_user",
	resultInvalidLine:   "invalid_line",
	resultForbidden:     "forbidden",
	resultNotEncrypted:  "not_encrypted",
	resultThrottled:     "throttled",
	resultOverloaded:    "overloaded",
	resultClientClosed:  "client_closed",
}

// resultReasons are the values of the field "reason" of failed logins in the log.
var resultReasons = [resultCount]string{
	resultMalformed:     "malformed credentials",
	resultWrongPassword: "wrong password",
	resultUnknownUser:   "unknown user",
	resultLockedUser:    "locked user",
	resultInvalidLine:   "invalid line",
	resultForbidden:     "user not authorized",
}

func (r result) String() string { return resultLabels[r] }

package money

import "fmt"

// Currency is an ISO 4217 currency with its minor digits. The zero Currency is no currency and has no text.
// Currencies compare with ==.
type Currency struct {
	code   string
	digits int
}

// ParseCurrency knows the active ISO 4217 codes, in capitals, and those withdrawn since 2014, which old invoices may
// carry. Codes that are no money to post (XXX, XTS, metals, units of account) are ErrCurrency.
func ParseCurrency(code string) (Currency, error) {
	digits, ok := minorDigits(code)
	if !ok {
		if len(code) > 8 {
			return Currency{}, fmt.Errorf("%w: want a three-letter ISO 4217 code", ErrCurrency)
		}
		return Currency{}, fmt.Errorf("%w: %q is not a three-letter ISO 4217 code in capitals", ErrCurrency, code)
	}
	return Currency{code, digits}, nil
}

// MustCurrency is ParseCurrency for constants and tests; it panics on an error.
func MustCurrency(code string) Currency {
	c, err := ParseCurrency(code)
	if err != nil {
		panic(err)
	}
	return c
}

// Code is the three capitals of ISO 4217, empty for the zero Currency.
func (c Currency) Code() string { return c.code }

// Digits counts the decimals of the minor unit: 2 for USD, 0 for JPY.
func (c Currency) Digits() int { return c.digits }

// Equal reports whether c and e are the same currency.
func (c Currency) Equal(e Currency) bool { return c == e }

// String is Code.
func (c Currency) String() string { return c.code }

// MarshalText is Code; the zero Currency is ErrCurrency, because it could not be read back.
func (c Currency) MarshalText() ([]byte, error) {
	if c.code == "" {
		return nil, fmt.Errorf("%w: none set", ErrCurrency)
	}
	return []byte(c.code), nil
}

// UnmarshalText is ParseCurrency. On an error c stays as it was.
func (c *Currency) UnmarshalText(b []byte) error {
	v, err := ParseCurrency(string(b))
	if err != nil {
		return err
	}
	*c = v
	return nil
}

// minorDigits is the table of ISO 4217, list one, with the last entries of list three.
func minorDigits(code string) (int, bool) {
	switch code {
	case "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
		"XPF",
		"BYR": // withdrawn 2016
		return 0, true
	case "BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND":
		return 3, true
	case "CLF", "UYW":
		return 4, true
	case "AED", "AFN", "ALL", "AMD", "AOA", "ARS", "AUD", "AWG", "AZN", "BAM", "BBD", "BDT", "BMD", "BND", "BOB", "BOV",
		"BRL", "BSD", "BTN", "BWP", "BYN", "BZD", "CAD", "CDF", "CHE", "CHF", "CHW", "CNY", "COP", "COU", "CRC", "CUP",
		"CVE", "CZK", "DKK", "DOP", "DZD", "EGP", "ERN", "ETB", "EUR", "FJD", "FKP", "GBP", "GEL", "GHS", "GIP", "GMD",
		"GTQ", "GYD", "HKD", "HNL", "HTG", "HUF", "IDR", "ILS", "INR", "IRR", "JMD", "KES", "KGS", "KHR", "KPW", "KYD",
		"KZT", "LAK", "LBP", "LKR", "LRD", "LSL", "MAD", "MDL", "MGA", "MKD", "MMK", "MNT", "MOP", "MRU", "MUR", "MVR",
		"MWK", "MXN", "MXV", "MYR", "MZN", "NAD", "NGN", "NIO", "NOK", "NPR", "NZD", "PAB", "PEN", "PGK", "PHP", "PKR",
		"PLN", "QAR", "RON", "RSD", "RUB", "SAR", "SBD", "SCR", "SDG", "SEK", "SGD", "SHP", "SLE", "SOS", "SRD", "SSP",
		"STN", "SVC", "SYP", "SZL", "THB", "TJS", "TMT", "TOP", "TRY", "TTD", "TWD", "TZS", "UAH", "USD", "USN", "UYU",
		"UZS", "VED", "VES", "WST", "XAD", "XCD", "XCG", "YER", "ZAR", "ZMW", "ZWG":
		return 2, true
	case "ANG", "BGN", "CUC", "HRK", "LTL", "LVL", "MRO", "SLL", "STD", "VEF", "ZWL": // withdrawn since 2014
		return 2, true
	}
	return 0, false
}

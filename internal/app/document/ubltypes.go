package document

import "encoding/xml"

// The elements of UBL 2.1 that are used, in the order that its schema demands. An invoice and a credit note share them all but
// for the names of a few.

const (
	nsInvoice    = "urn:oasis:names:specification:ubl:schema:xsd:Invoice-2"
	nsCreditNote = "urn:oasis:names:specification:ubl:schema:xsd:CreditNote-2"
	nsAggregate  = "urn:oasis:names:specification:ubl:schema:xsd:CommonAggregateComponents-2"
	nsBasic      = "urn:oasis:names:specification:ubl:schema:xsd:CommonBasicComponents-2"
)

type ublDocument struct {
	XMLName   xml.Name
	NS        string `xml:"xmlns,attr"`
	Aggregate string `xml:"xmlns:cac,attr"`
	Basic     string `xml:"xmlns:cbc,attr"`

	Customization  string        `xml:"cbc:CustomizationID,omitempty"`
	Profile        string        `xml:"cbc:ProfileID,omitempty"`
	ID             string        `xml:"cbc:ID"`
	IssueDate      string        `xml:"cbc:IssueDate"`
	DueDate        string        `xml:"cbc:DueDate,omitempty"`
	InvoiceType    string        `xml:"cbc:InvoiceTypeCode,omitempty"`
	CreditNoteType string        `xml:"cbc:CreditNoteTypeCode,omitempty"`
	Note           string        `xml:"cbc:Note,omitempty"`
	Currency       string        `xml:"cbc:DocumentCurrencyCode"`
	Period         *ublPeriod    `xml:"cac:InvoicePeriod"`
	Corrects       *ublReference `xml:"cac:BillingReference"`
	Supplier       ublParty      `xml:"cac:AccountingSupplierParty>cac:Party"`
	Customer       ublParty      `xml:"cac:AccountingCustomerParty>cac:Party"`
	Means          *ublMeans     `xml:"cac:PaymentMeans"`
	Terms          *ublNote      `xml:"cac:PaymentTerms"`
	TaxTotal       ublTaxTotal   `xml:"cac:TaxTotal"`
	Sums           ublSums       `xml:"cac:LegalMonetaryTotal"`
	InvoiceLines   []ublLine     `xml:"cac:InvoiceLine"`
	CreditLines    []ublLine     `xml:"cac:CreditNoteLine"`
}

type ublPeriod struct {
	Start string `xml:"cbc:StartDate"`
	End   string `xml:"cbc:EndDate"`
}

type ublReference struct {
	ID   string `xml:"cac:InvoiceDocumentReference>cbc:ID"`
	Date string `xml:"cac:InvoiceDocumentReference>cbc:IssueDate,omitempty"`
}

type ublID struct {
	Scheme string `xml:"schemeID,attr,omitempty"`
	Value  string `xml:",chardata"`
}

type ublParty struct {
	Endpoint *ublID       `xml:"cbc:EndpointID"`
	Number   *ublKey      `xml:"cac:PartyIdentification"`
	Address  ublAddress   `xml:"cac:PostalAddress"`
	Tax      *ublTaxParty `xml:"cac:PartyTaxScheme"`
	Legal    ublLegal     `xml:"cac:PartyLegalEntity"`
	Contact  *ublContact  `xml:"cac:Contact"`
}

type ublKey struct {
	ID string `xml:"cbc:ID"`
}

type ublNote struct {
	Note string `xml:"cbc:Note"`
}

type ublLegal struct {
	Name string `xml:"cbc:RegistrationName"`
	ID   string `xml:"cbc:CompanyID,omitempty"`
}

type ublContact struct {
	Email string `xml:"cbc:ElectronicMail"`
}

type ublAddress struct {
	Street  string `xml:"cbc:StreetName,omitempty"`
	City    string `xml:"cbc:CityName,omitempty"`
	Postal  string `xml:"cbc:PostalZone,omitempty"`
	Region  string `xml:"cbc:CountrySubentity,omitempty"`
	Country string `xml:"cac:Country>cbc:IdentificationCode"`
}

type ublTaxParty struct {
	ID     string `xml:"cbc:CompanyID"`
	Scheme string `xml:"cac:TaxScheme>cbc:ID"`
}

type ublMeans struct {
	Code      string `xml:"cbc:PaymentMeansCode"`
	Due       string `xml:"cbc:PaymentDueDate,omitempty"`
	Reference string `xml:"cbc:PaymentID,omitempty"`
	Account   string `xml:"cac:PayeeFinancialAccount>cbc:ID"`
}

type ublAmount struct {
	Currency string `xml:"currencyID,attr"`
	Value    string `xml:",chardata"`
}

type ublTaxTotal struct {
	Amount ublAmount        `xml:"cbc:TaxAmount"`
	Parts  []ublTaxSubtotal `xml:"cac:TaxSubtotal"`
}

type ublTaxSubtotal struct {
	Base     ublAmount   `xml:"cbc:TaxableAmount"`
	Amount   ublAmount   `xml:"cbc:TaxAmount"`
	Category ublCategory `xml:"cac:TaxCategory"`
}

type ublCategory struct {
	ID      string `xml:"cbc:ID"`
	Percent string `xml:"cbc:Percent,omitempty"`
	Reason  string `xml:"cbc:TaxExemptionReason,omitempty"`
	Scheme  string `xml:"cac:TaxScheme>cbc:ID"`
}

type ublSums struct {
	Lines     ublAmount  `xml:"cbc:LineExtensionAmount"`
	Exclusive ublAmount  `xml:"cbc:TaxExclusiveAmount"`
	Inclusive ublAmount  `xml:"cbc:TaxInclusiveAmount"`
	Prepaid   *ublAmount `xml:"cbc:PrepaidAmount"`
	Payable   ublAmount  `xml:"cbc:PayableAmount"`
}

type ublQuantity struct {
	Unit  string `xml:"unitCode,attr"`
	Value string `xml:",chardata"`
}

type ublLine struct {
	ID       string       `xml:"cbc:ID"`
	Note     string       `xml:"cbc:Note,omitempty"`
	Invoiced *ublQuantity `xml:"cbc:InvoicedQuantity"`
	Credited *ublQuantity `xml:"cbc:CreditedQuantity"`
	Net      ublAmount    `xml:"cbc:LineExtensionAmount"`
	Period   *ublPeriod   `xml:"cac:InvoicePeriod"`
	Item     ublItem      `xml:"cac:Item"`
	Price    ublPrice     `xml:"cac:Price"`
}

type ublItem struct {
	Description string      `xml:"cbc:Description,omitempty"`
	Name        string      `xml:"cbc:Name"`
	Key         *ublKey     `xml:"cac:SellersItemIdentification"`
	Category    ublCategory `xml:"cac:ClassifiedTaxCategory"`
}

type ublPrice struct {
	Amount ublAmount    `xml:"cbc:PriceAmount"`
	Base   *ublQuantity `xml:"cbc:BaseQuantity"`
}

"""What provider bodies have in common, so that none of them has to spell it out again in storage.

Field names in the providers' own order, with the values that they usually have. A stored body refers to these bytes
by distance: **never change a released text**, not by one letter; write another one under a new format byte (codec).
The commonest comes last, because near is cheaper than far. Chosen over a dictionary that each ledger learns from its
own bodies, which would keep what people asked to be forgotten.
"""

from __future__ import annotations

_SHOPIFY = (
    '{"shop_money":{"amount":"0.00","currency_code":"USD"},"presentment_money":{"amount":"0.00","currency_code":"EUR"}}'
    '"admin_graphql_api_id":"gid://shopify/Order/","app_id":null,"browser_ip":null,"buyer_accepts_marketing":false,'
    '"cancel_reason":null,"cancelled_at":null,"cart_token":null,"checkout_id":null,"checkout_token":null,'
    '"client_details":null,"closed_at":null,"confirmation_number":null,"confirmed":true,"contact_email":null,'
    '"created_at":"2026-01-01T00:00:00-05:00","currency":"USD","current_subtotal_price":"0.00",'
    '"current_subtotal_price_set":,"current_total_additional_fees_set":null,"current_total_discounts":"0.00",'
    '"current_total_duties_set":null,"current_total_price":"0.00","current_total_tax":"0.00","customer_locale":"en",'
    '"device_id":null,"discount_codes":[],"duties_included":false,"email":"","estimated_taxes":false,'
    '"financial_status":"paid","fulfillment_status":null,"landing_site":null,"location_id":null,"name":"#1001",'
    '"note":null,"note_attributes":[],"number":1,"order_number":1001,"order_status_url":"https://",'
    '"original_total_duties_set":null,"payment_gateway_names":["shopify_payments"],"phone":null,'
    '"presentment_currency":"USD","processed_at":"","referring_site":null,"source_name":"web","subtotal_price":"0.00",'
    '"tags":"","tax_exempt":false,"tax_lines":[],"taxes_included":false,"test":false,"total_discounts":"0.00",'
    '"total_line_items_price":"0.00","total_outstanding":"0.00","total_price":"0.00","total_price_set":,'
    '"total_shipping_price_set":,"total_tax":"0.00","total_tip_received":"0.00","total_weight":0,"updated_at":"",'
    '"user_id":null,"billing_address":{"first_name":"","address1":"","phone":null,"city":"","zip":"","province":"",'
    '"country":"","last_name":"","address2":null,"company":null,"latitude":null,"longitude":null,"name":"",'
    '"country_code":"US","province_code":""},"customer":{"id":},"line_items":[{"id":,"current_quantity":1,'
    '"fulfillable_quantity":1,"fulfillment_service":"manual","gift_card":false,"grams":0,"price":"0.00",'
    '"product_exists":true,"product_id":,"properties":[],"quantity":1,"requires_shipping":true,"sku":"","taxable":true,'
    '"title":"","variant_id":,"variant_title":null,"vendor":"","discount_allocations":[]}],"refunds":[],'
    '"shipping_lines":[],"inventory_quantity":0,"variants":[{"inventory_policy":"deny","option1":"","published_at":'
)

_STRIPE_CHARGE = (
    '{"id":"ch_","object":"charge","amount":,"amount_captured":,"amount_refunded":0,"application":null,'
    '"application_fee":null,"application_fee_amount":null,"balance_transaction":"txn_","billing_details":{"address":'
    '{"city":null,"country":null,"line1":null,"line2":null,"postal_code":null,"state":null},"email":null,"name":null,'
    '"phone":null,"tax_id":null},"calculated_statement_descriptor":"","captured":true,"created":17,"currency":"usd",'
    '"customer":null,"description":null,"disputed":false,"failure_balance_transaction":null,"failure_code":null,'
    '"failure_message":null,"fraud_details":{},"livemode":true,"metadata":{},"on_behalf_of":null,"outcome":'
    '{"advice_code":null,"network_advice_code":null,"network_decline_code":null,"network_status":'
    '"approved_by_network","reason":null,"risk_level":"normal","risk_score":,"seller_message":"Payment complete.",'
    '"type":"authorized"},"paid":true,"payment_intent":"pi_","payment_method":"pm_","payment_method_details":{"card":'
    '{"amount_authorized":,"authorization_code":null,"brand":"visa","checks":{"address_line1_check":null,'
    '"address_postal_code_check":null,"cvc_check":"pass"},"country":"US","exp_month":1,"exp_year":20,'
    '"extended_authorization":{"status":"disabled"},"fingerprint":"","funding":"credit","incremental_authorization":'
    '{"status":"unavailable"},"installments":null,"last4":"4242","mandate":null,"multicapture":{"status":'
    '"unavailable"},"network":"visa","network_token":{"used":false},"overcapture":{"status":"unavailable"},'
    '"three_d_secure":null,"wallet":null},"type":"card"},"receipt_email":null,"receipt_number":null,'
    '"receipt_url":"https://pay.stripe.com/receipts/","refunded":false,"refunds":null,"review":null,"shipping":null,'
    '"source":null,"source_transfer":null,"status":"succeeded"}'
    '{"id":"txn_","object":"balance_transaction","available_on":17,"exchange_rate":null,"fee":,"fee_details":[{'
    '"type":"stripe_fee"}],"net":,"reporting_category":"charge","source":"ch_","balance_type":"payments"}'
    '{"id":"re_","object":"refund","destination_details":{"type":"card"},"reason":null,"charge":"ch_",'
    '"source_transfer_reversal":null,"transfer_reversal":null,"failure_balance_transaction":null}'
)

_STRIPE_EVENT = (
    '{"id":"evt_1","object":"event","api_version":"2026-10-28.endive","created":17,"data":{"previous_attributes":{},'
    '"object":{"id":"pi_3","object":"payment_intent","amount":,"amount_capturable":0,"amount_details":{"tip":{}},'
    '"amount_received":,"application":null,"application_fee_amount":null,"automatic_payment_methods":'
    '{"allow_redirects":"always","enabled":true},"canceled_at":null,"cancellation_reason":null,"capture_method":'
    '"automatic_async","client_secret":"pi_3_secret_","confirmation_method":"automatic","created":17,"currency":"usd",'
    '"customer":null,"customer_account":null,"description":null,"excluded_payment_method_types":null,'
    '"last_payment_error":null,"latest_charge":"ch_3","livemode":true,"managed_payments":null,"metadata":'
    '{"order_id":"},"next_action":null,"on_behalf_of":null,"payment_method":"pm_1",'
    '"payment_method_configuration_details":{"id":"pmc_1","parent":null},"payment_method_options":{"card":'
    '{"installments":null,"mandate_options":null,"network":null,"request_three_d_secure":"automatic"},"klarna":'
    '{"preferred_locale":null},"link":{"persistent_token":null}},"payment_method_types":["card","link"],"processing":'
    'null,"receipt_email":null,"review":null,"setup_future_usage":null,"shipping":{"address":{"city":"","country":"",'
    '"line1":"","line2":null,"postal_code":"","state":null},"carrier":null,"name":"","phone":null,"tracking_number":'
    'null},"source":null,"statement_descriptor":null,"statement_descriptor_suffix":null,"status":"succeeded",'
    '"transfer_data":null,"transfer_group":null}},"livemode":false,"pending_webhooks":1,"request":{"id":"req_",'
    '"idempotency_key":"},"type":"payment_intent.succeeded"}'
)

FIRST = (_SHOPIFY + _STRIPE_CHARGE + _STRIPE_EVENT).encode()
"""Behind the format byte `d` of the codec."""

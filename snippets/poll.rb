require "json"
require "net/http"

URL = "https://hooks.example.com/api/v1/app/acme/poller/warehouse/consumer/main"
TOKEN = ENV.fetch("TOKEN") # sk_poll_…

# Passing a page's iterator confirms that the page is handled.
def fetch(iterator = nil, wait: 20)
  url = URI(URL)
  url.query = URI.encode_www_form({ wait: wait, iterator: iterator }.compact)
  request = Net::HTTP::Get.new(url, "authorization" => "Bearer #{TOKEN}")
  options = { use_ssl: url.scheme == "https", read_timeout: wait + 10 }
  response = Net::HTTP.start(url.host, url.port, options) { |http| http.request(request) }
  raise "#{response.code}: #{response.body}" unless response.is_a?(Net::HTTPOK)

  JSON.parse(response.body)
end

# Runs forever. A crash repeats messages, so deduplicate them by id.
def run(iterator = nil)
  loop do
    page = fetch(iterator)
    page["data"].each { |message| yield message }
    iterator = page["iterator"]
  end
end

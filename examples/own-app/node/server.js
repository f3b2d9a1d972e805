// The smallest Node app: no packages, and the port is read from $PORT.
const http = require("node:http");

const server = http.createServer((request, response) => {
  console.log(request.method, request.url);
  response.setHeader("Content-Type", "text/plain");
  response.end(`Hello from ${request.url}\n`);
});

server.listen(process.env.PORT, "127.0.0.1", () => {
  console.log(`listening on ${server.address().port}`);
});
process.on("SIGTERM", () => server.close(() => process.exit(0)));

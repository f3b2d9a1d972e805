// A small Node app that waits: `node app.js`, PORT in its environment.
require("http").createServer((request, response) => response.end("ok\n")).listen(process.env.PORT, "127.0.0.1");

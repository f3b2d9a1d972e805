// What pages need of preact and htm, from one place.
export {
  h, html, render, Component, createContext, useState, useEffect, useLayoutEffect, useRef, useMemo, useCallback,
  useContext, useErrorBoundary,
} from "../vendor/preact.js";
